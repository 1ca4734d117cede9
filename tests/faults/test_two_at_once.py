"""Real processes side by side."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from vae_mnist.errors import RunInUseError
from vae_mnist.project.runs import LOCK, OWNER, RunLock, digits_users
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.processes import MANY, running, wait_for

TRAIN = "--pipelines=ingest,train"


def owner(project, run="default"):
    path = project.path("06_models", run, OWNER)
    return json.loads(path.read_text()) if path.exists() else None


def test_the_second_run_of_a_name_stops_and_names_the_first(project):
    with running(project, TRAIN, **MANY) as first:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), first)
        held = owner(project)
        second = project.run(TRAIN, check=False, **MANY)
        assert first.poll() is None
    assert second.returncode == 1
    assert (
        f"Error: run 'default' is being worked on by process {first.pid} on host {socket.gethostname()} "
        f"since {held['started']}. Wait for it, stop it, or choose another run name: --params=run="
    ) in second.stderr
    assert "Traceback" not in second.stdout + second.stderr


def test_every_pipeline_of_a_run_is_kept_from_it(project):
    with running(project, TRAIN, **MANY) as first:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), first)
        for pipeline in ("ingest", "train", "evaluate", "report", "generate"):
            result = project.invoke(f"--pipeline={pipeline}", **MANY)
            assert result.exit_code == 1
            assert f"is being worked on by process {first.pid}" in result.output
        assert project.invoke("--pipeline=ingest", run="other").exit_code == 0


def test_the_lock_of_a_dead_process_does_not_block(project):
    with running(project, TRAIN, **MANY) as first:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), first)
        os.kill(first.pid, signal.SIGKILL)
    assert owner(project)["pid"] == first.pid, "the dead process left its name"
    epochs = len(list(project.path("06_models", "default").glob("*.pt")))
    assert project.run(TRAIN, **(MANY | {"train__epochs": epochs + 1})).returncode == 0
    assert owner(project) is None


def test_runs_of_different_names_side_by_side_are_right_and_write_the_digits_once(project, finished):
    names = ["a", "b", "c"]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(project, run=name, train__epochs=4)) for name in names]
        outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    digits = project.path("05_model_input", "train_digits.safetensors")
    # Written again it would be another file: the writer puts a new one in the old one's place.
    number = digits.stat().st_ino
    finished.invoke("--pipeline=train", run="alone", train__epochs=4)
    alone = read_checkpoint(finished.path("06_models", "alone", "vae_epoch_004.pt"))
    for name in names:
        assert same(read_checkpoint(project.path("06_models", name, "vae_epoch_004.pt")), alone)
        assert project.path("08_reporting", name, "samples.png").is_file()
    assert project.run("--pipeline=ingest").returncode == 0
    assert digits.stat().st_ino == number


def test_digits_in_use_are_not_exchanged(project):
    with running(project, TRAIN, run="first", **MANY) as first:
        wait_for(lambda: list(project.path("06_models", "first").glob("*.pt")), first)
        before = project.path("05_model_input", "train_digits.safetensors").read_bytes()
        other = project.run(TRAIN, run="other", ingest__validation_size=500, check=False)
        assert first.poll() is None
    assert other.returncode == 1
    assert (
        "Error: data/05_model_input/train_digits.safetensors: expected the digits that run 'first' "
        f"(process {first.pid} on host {socket.gethostname()} since "
    ) in other.stderr
    assert "data_root" in other.stderr
    assert project.path("05_model_input", "train_digits.safetensors").read_bytes() == before
    # Once it is over, they may be.
    assert project.run(TRAIN, run="other", ingest__validation_size=500).returncode == 0


def test_a_run_in_this_process_is_given_back_at_its_end(project):
    for _ in range(2):
        assert project.invoke("--pipelines=ingest,train").exit_code == 0
    assert project.invoke("--pipeline=train", train__latent_dim=7).exit_code == 1
    assert project.invoke("--pipeline=train", model__latent_dim=7).exit_code == 1
    lock = RunLock(project.path("06_models", "default"))
    lock.acquire()
    lock.release()


def test_a_lock_is_held_against_the_same_process_too(tmp_path):
    first, second = RunLock(tmp_path / "r"), RunLock(tmp_path / "r")
    first.acquire()
    message = rf"run 'r' is being worked on by process {os.getpid()} on host .* \(this process itself: .* kernel\)"
    with pytest.raises(RunInUseError, match=message):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()


def test_a_lock_is_waited_for_a_moment(tmp_path):
    """Whoever only asks whether it is held has it meanwhile."""
    held = threading.Event()

    def hold():
        lock = RunLock(tmp_path / "r")
        lock.acquire()
        held.set()
        time.sleep(0.3)
        lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    lock = RunLock(tmp_path / "r")
    lock.acquire()
    thread.join()
    lock.release()


def test_only_living_runs_that_read_digits_are_named_as_their_users(tmp_path):
    reads, idle, gone = (RunLock(tmp_path / name) for name in ("reads", "idle", "gone"))
    for lock in (reads, idle, gone):
        lock.acquire()
    reads.use_digits()
    gone.use_digits()
    left = (gone.folder / OWNER).read_text()
    gone.release()
    (gone.folder / OWNER).write_text(left)
    (user,) = digits_users(tmp_path)
    assert user.startswith(f"run 'reads' (process {os.getpid()} on host {socket.gethostname()} since ")
    assert list(digits_users(tmp_path, but=reads.folder)) == []
    for lock in (reads, idle):
        lock.release()
        assert not (lock.folder / OWNER).exists()
    assert list(digits_users(tmp_path)) == []


def test_damaged_digits_are_replaced_although_another_run_uses_them(project):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    digits = project.path("05_model_input", "train_digits.safetensors")
    whole = digits.read_bytes()
    other = RunLock(project.path("06_models", "other"))
    other.acquire()
    other.use_digits()
    refused = project.invoke("--pipeline=ingest", ingest__validation_size=100)
    assert "expected the digits that run 'other'" in refused.output
    digits.write_bytes(whole[:-1])
    assert project.invoke("--pipeline=ingest").exit_code == 0
    assert digits.read_bytes() == whole
    other.release()


@pytest.mark.parametrize("name", [None, "{", "[1]"])
def test_a_lock_whose_owner_has_not_signed_yet_is_respected(tmp_path, name):
    first = RunLock(tmp_path / "r")
    first.acquire()
    (tmp_path / "r" / OWNER).unlink()
    if name is not None:
        (tmp_path / "r" / OWNER).write_text(name)
    with pytest.raises(RunInUseError, match="another process that has only just begun"):
        RunLock(tmp_path / "r").acquire()
    first.release()


def test_a_second_ingest_waits_for_the_first(project):
    """A process that holds the digits' lock, and a real run beside it."""
    folder = project.path("05_model_input")
    folder.mkdir(parents=True)
    code = (
        "import sys, time; from filelock import FileLock\n"
        f"lock = FileLock({str(folder / LOCK)!r}); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    holding = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holding as holder, running(project, "--pipeline=ingest") as process:
        assert holder.stdout.readline() == "held\n"
        for line in process.stdout:
            if "waiting for another process that is making digits" in line:
                break
        time.sleep(1)
        assert process.poll() is None
        assert not (folder / "train_digits.safetensors").exists()
        holder.communicate("")
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert (folder / "train_digits.safetensors").is_file()
