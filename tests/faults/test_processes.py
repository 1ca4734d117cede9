"""Training in several processes: real launchers, real deaths."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest

from vae_mnist.errors import WriteError
from vae_mnist.storage.checkpoints import read_checkpoint
from vae_mnist.training.workers import Job, train_in_processes

from ..helpers.processes import MANY, running, wait_for
from ..helpers.project import as_params, without_coverage

# 4,000 digits in batches of 333: two processes have 167 and 166 of each, and 2 and 2 of the last.
ODD = {"train__batch_size": 333, "train__epochs": 2}
TRAIN = "--pipeline=train"


@pytest.fixture
def ingested(project):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    return project


def losses(project, run):
    history = pd.read_csv(project.path("07_model_output", run, "history.csv"))
    return history.drop(columns=["seconds"]).to_numpy()


def checkpoints(project, run="default"):
    return sorted(project.path("06_models", run).glob("vae_epoch_*.pt"))


def workers_of(process):
    """The training processes that a `kedro run` has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "vae_mnist.training.workers" in child.cmdline()]


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_processes(ingested):
    for count in (1, 2, 3):
        ingested.run(TRAIN, run=f"n{count}", train__processes=count, **ODD)
    one, two, three = (losses(ingested, f"n{count}") for count in (1, 2, 3))
    assert one == pytest.approx(two, rel=1e-4)
    assert one == pytest.approx(three, rel=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(ingested):
    more = ODD | {"train__epochs": 3}
    ingested.run(TRAIN, run="one", **more)
    for epochs, count in ((1, 2), (2, 1), (3, 2)):
        settings = more | {"train__epochs": epochs, "train__processes": count}
        ingested.run(TRAIN, run="mixed", **settings)
    assert losses(ingested, "mixed") == pytest.approx(losses(ingested, "one"), rel=1e-4)
    assert [read_checkpoint(path)["epoch"] for path in checkpoints(ingested, "mixed")] == [1, 2, 3]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.slow
def test_a_process_that_dies_ends_the_run(ingested, rank):
    with running(ingested, TRAIN, **MANY, train__processes=2) as process:
        wait_for(lambda: len(checkpoints(ingested)) >= 2, process)
        workers = workers_of(process)
        assert len(workers) == 2
        (victim,) = (worker for worker in workers if worker.environ()["RANK"] == str(rank))
        victim.send_signal(signal.SIGKILL)
        died = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - died < 10
    assert process.returncode == 1
    (error,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert f"training process {rank} (pid {victim.pid}) ended with signal 9" in error
    assert "the epochs so far are whole" in error
    assert not any(worker.is_running() for worker in workers)
    assert [read_checkpoint(path)["epoch"] for path in checkpoints(ingested)] == list(
        range(1, len(checkpoints(ingested)) + 1)
    )


def insert(project, line, place):
    """Put a line before that place in the project's own code; returns the environment that runs it."""
    module = project.root / "src" / "vae_mnist" / "workers.py"
    assert place in module.read_text()
    indent = place[: len(place) - len(place.lstrip())]
    module.write_text(module.read_text().replace(place, f"{indent}{line}\n{place}", 1))
    return without_coverage() | {"PYTHONPATH": str(project.root / "src")}


def broken(project, line):
    """The result of a run whose second process comes to that line."""
    environment = insert(project, f"if team.rank: {line}", "    device = resolve_device")
    return project.kedro("run", TRAIN, as_params(train__processes=2), env=environment)


def test_without_a_temporary_folder_the_run_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(WriteError, match=r"it cannot be made: .*missing.* environment variable TMPDIR"):
        next(train_in_processes(Job({}, {}, {}, {}, {}), None, 2))


@pytest.mark.slow
def test_an_exception_in_a_process_is_shown_with_its_traceback(ingested):
    result = broken(ingested, "1 / 0")
    assert result.returncode == 1
    assert "Error: training process 1 (pid " in result.stderr
    assert "in _epochs\n    if team.rank: 1 / 0" in result.stderr.partition("Error: ")[2]
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.slow
def test_an_error_of_our_own_in_a_process_is_one_message(ingested):
    result = broken(ingested, "raise DataError('digits of this machine: missing')")
    assert result.returncode == 1
    assert result.stderr.endswith("Error: digits of this machine: missing\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_stopped_run_leaves_no_processes(ingested, number):
    with running(ingested, TRAIN, **MANY, train__processes=2) as process:
        wait_for(lambda: checkpoints(ingested), process)
        workers = workers_of(process)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err.startswith(f"Stopped by {number.name}.")
    assert err.count("\n") == 1
    assert psutil.wait_procs(workers, timeout=5)[1] == []


@pytest.mark.slow
def test_a_process_that_writes_while_the_run_is_stopped_ends_quietly(ingested):
    # It looks late, as does the launcher: the other process has left when it makes the removed folder anew.
    for line in (
        "if state.epoch == 2: globals().update(LOOK_SECONDS=60); time.sleep(0.1); Path('late').touch()",
        "while state.epoch == 2 and folder.is_dir(): time.sleep(0.001)",
        "if state.epoch == 2: time.sleep(0.5)",
    ):
        insert(ingested, line, "                    name = f")
    environment = insert(ingested, "config.monitor_interval = 60", "    try:\n        elastic_launch")
    with running(ingested, TRAIN, env=environment, **MANY, train__processes=2) as process:
        wait_for((ingested.root / "late").exists, process)
        workers = workers_of(process)
        (folder,) = {Path(worker.cmdline()[-2]) for worker in workers}
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert err.startswith("Stopped by SIGTERM.")
    assert err.count("\n") == 1
    assert not folder.exists()


@pytest.mark.slow
def test_a_killed_run_leaves_no_processes(ingested):
    with running(ingested, TRAIN, **MANY, train__processes=2) as process:
        wait_for(lambda: checkpoints(ingested), process)
        workers = workers_of(process)
        process.kill()
        process.communicate()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


@contextmanager
def machine(project, number, port, pipeline=TRAIN, **overrides):
    """What is typed on one of two machines; a group of processes of its own."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=2"),
        *("--master-addr=127.0.0.1", f"--master-port={port}", f"--log-dir={project.root / 'torchrun'}"),
        *("-m", "vae_mnist", pipeline, as_params(**overrides)),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = without_coverage() | {"PYTHONPATH": str(project.root / "src")}
    with subprocess.Popen(command, cwd=project.root, env=environment, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_two_machines_train_one_model(ingested):
    ingested.run(TRAIN, run="one", **ODD)
    for epochs in (1, 2):  # the second run goes on from the first one's checkpoint
        port = free_port()
        params = ODD | {"run": "two", "train__processes": 3, "train__epochs": epochs}  # torchrun's four processes hold
        with machine(ingested, 0, port, **params) as first, machine(ingested, 1, port, **params) as second:
            outputs = [each.communicate(timeout=300) for each in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), outputs
    assert losses(ingested, "two") == pytest.approx(losses(ingested, "one"), rel=1e-4)
    assert "epoch 2/2" in outputs[0][0]
    assert "epoch" not in outputs[1][0], "the first process alone tells"
    assert "goes on after epoch 1" in outputs[0][0]
    records = json.loads(ingested.path("07_model_output", "two", "run_record.json").read_text())
    assert [record["exit"] for record in records] == ["finished", "finished"]


@pytest.mark.slow
def test_nothing_to_train_sends_the_other_machine_home(finished):
    port = free_port()
    with machine(finished, 0, port) as first, machine(finished, 1, port) as second:
        outputs = [each.communicate(timeout=120) for each in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert "is already trained" in outputs[0][0]


@pytest.mark.slow
def test_torchrun_is_for_training(finished):
    port, report = free_port(), "--pipeline=report"
    with machine(finished, 0, port, report) as first, machine(finished, 1, port, report) as second:
        outputs = [each.communicate(timeout=120) for each in (first, second)]
    assert first.returncode != 0
    assert second.returncode != 0
    assert "Error: torchrun starts processes that train together; report trains nothing." in outputs[0][1]


@pytest.mark.parametrize("dies", [0, 1])
@pytest.mark.slow
def test_a_machine_that_dies_ends_the_run_on_the_other(ingested, dies):
    port = free_port()
    with machine(ingested, 0, port, **MANY) as first, machine(ingested, 1, port, **MANY) as second:
        wait_for(lambda: len(checkpoints(ingested)) >= 2, first)
        victim, other = (first, second) if dies == 0 else (second, first)
        left = psutil.Process(other.pid).children(recursive=True)
        # all of a machine at once, as when its power goes
        for each in [*psutil.Process(victim.pid).children(recursive=True), psutil.Process(victim.pid)]:
            each.kill()
        died = time.monotonic()
        other.communicate(timeout=60)
        assert time.monotonic() - died < 10
        assert other.returncode != 0
        assert psutil.wait_procs(left, timeout=5)[1] == []
    epochs = [read_checkpoint(path)["epoch"] for path in checkpoints(ingested)]
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.slow
def test_nothing_that_travels_is_unpickled(ingested):
    """Each process, and the one that starts them, without a way to unpickle."""
    forbid = "import pickle\ndef no(*_, **__): raise SystemExit('unpickled')\npickle.loads = pickle.load = no\n"
    (ingested.root / "forbid").mkdir()
    (ingested.root / "forbid" / "sitecustomize.py").write_text(forbid)
    environment = without_coverage() | {"PYTHONPATH": f"{ingested.root / 'forbid'}:{ingested.root / 'src'}"}
    refused = ingested.command(sys.executable, "-c", "import pickle; pickle.loads(b'N.')", env=environment)
    assert "unpickled" in refused.stderr
    result = ingested.kedro("run", TRAIN, as_params(train__processes=2), env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
