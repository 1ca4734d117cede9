"""Disks that are full, read-only, forbidden or gone: small file systems, rights taken away, folders removed."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from vae_mnist.errors import WriteError
from vae_mnist.storage.atomic import atomic_write, plain_write_errors
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.processes import MANY, running, wait_for
from ..helpers.project import as_params

KEDRO = f"{sys.executable} -m kedro run"


def can_mount():
    """Whether this test may make file systems of its own, seen by nobody else."""
    try:
        command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


needs_mount = pytest.mark.skipif(not can_mount(), reason="may not mount: the test with RLIMIT_FSIZE stands in")


def on_small_disk(project, size, script, check=True):
    """Run a script with data/ on a file system of that size; data/ as it was at the end is then found in kept/."""
    project.path().mkdir(exist_ok=True)
    lines = ["set -e", f"mount -t tmpfs -o size={size} none data", "disk() { mount -o remount,$1 data; }", script]
    ending = "status=$?; cp -a data kept; exit $status"
    whole = "\n".join(["(", *lines, ")", ending])
    result = project.command("unshare", "-m", "sh", "-c", whole, timeout=300)
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def kept(project, *parts):
    return project.root.joinpath("kept", *parts)


def assert_whole(folder):
    """No rest of a writer, and every checkpoint can be read."""
    assert [path for path in folder.rglob("*") if path.name.endswith(".tmp")] == []
    return [read_checkpoint(path).epoch for path in sorted(folder.rglob("*.pt"))]


@needs_mount
@pytest.mark.slow
def test_a_full_disk_ends_training_with_one_error_and_room_lets_it_go_on(project, finished):
    params = as_params(train__epochs=12)
    result = on_small_disk(
        project,
        "6m",
        f"""
        {KEDRO} --pipelines=ingest {params}
        {KEDRO} --pipelines=train {params} && exit 9
        ls data/06_models/default > full.txt
        disk size=60m
        {KEDRO} --pipelines=train {params}
        """,
    )
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    written = [name for name in (project.root / "full.txt").read_text().split() if name.endswith(".pt")]
    assert 2 <= len(written) < 12
    assert f"vae_epoch_{len(written) + 1:03d}.pt: cannot be written: No space left on device." in error
    assert "what was finished earlier is whole" in error
    assert "Traceback" not in result.stdout + result.stderr
    assert f"goes on after epoch {len(written)}" in result.stdout
    assert assert_whole(kept(project)) == list(range(1, 13))
    assert finished.invoke("--pipelines=train", run="full_disk", train__epochs=12).exit_code == 0
    unbroken = read_checkpoint(finished.path("06_models", "full_disk", "vae_epoch_012.pt"))
    assert same(read_checkpoint(kept(project, "06_models", "default", "vae_epoch_012.pt")), unbroken)


@needs_mount
@pytest.mark.parametrize(
    ("size", "params", "file"),
    [
        ("2m", {}, "05_model_input/train_digits.safetensors"),
        ("3500k", {}, "05_model_input/test_digits.safetensors"),
        ("5m", {"report__sample_side": 32}, "08_reporting/default/"),
    ],
)
@pytest.mark.slow
def test_a_disk_that_fills_elsewhere_names_the_file(project, size, params, file):
    result = on_small_disk(project, size, f"{KEDRO} {as_params(**params)}", check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert f"/data/{file}" in error
    assert "cannot be written: No space left on device." in error
    assert "Traceback" not in result.stdout + result.stderr
    assert_whole(kept(project))


@needs_mount
@pytest.mark.slow
def test_a_read_only_disk_is_named_before_any_work(project):
    script = f"""
        {KEDRO} {as_params()}
        disk ro
        {KEDRO} {as_params(train__epochs=3)}
        """
    result = on_small_disk(project, "60m", script, check=False)
    assert result.returncode == 1
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "data/06_models/default/.lock: cannot be locked: " in error
    assert "Read-only file system" in error
    assert "Traceback" not in result.stderr
    assert assert_whole(kept(project)) == [1, 2]


@needs_mount
@pytest.mark.slow
def test_a_disk_that_goes_read_only_in_training_ends_it_with_one_error(project, finished):
    """As a file system does when its disk fails: what is open stays so, nothing new can be written."""
    folder = "data/06_models/default"
    script = f"""
        {KEDRO} --pipelines=ingest {as_params()}
        {KEDRO} --pipelines=train {as_params(**MANY)} & process=$!
        until [ -e {folder}/vae_epoch_002.pt ]; do kill -0 $process; sleep 0.02; done
        mount --bind {folder} {folder}
        mount -o remount,bind,ro {folder}
        wait $process && exit 9
        umount {folder}
        ls {folder}/*.pt | wc -l > written.txt
        {KEDRO} --pipelines=train {as_params(**MANY)},train.epochs=$(($(cat written.txt) + 1))
        """
    result = on_small_disk(project, "200m", script)
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    written = int((project.root / "written.txt").read_text())
    assert f"vae_epoch_{written + 1:03d}.pt: cannot be written: Read-only file system." in error
    assert "what was finished earlier is whole" in error
    assert "Traceback" not in result.stdout + result.stderr
    assert f"goes on after epoch {written}" in result.stdout
    assert assert_whole(kept(project)) == list(range(1, written + 2))
    unbroken = MANY | {"train__epochs": written + 1}
    assert finished.invoke("--pipelines=train", run="read_only", **unbroken).exit_code == 0
    name = f"vae_epoch_{written + 1:03d}.pt"
    left, right = kept(project, "06_models", "default"), finished.path("06_models", "read_only")
    assert same(read_checkpoint(left / name), read_checkpoint(right / name))


def without_root(*words):
    """A command whose rights are those that the files give, also where the tests run as root."""
    if os.geteuid() != 0:
        return words
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *words)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, and no way to lay it down")
@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("06_models/default", "06_models/default/.lock"),
        ("07_model_output/default", "07_model_output/default/run_record.json"),
        ("08_reporting/default", "08_reporting/default/"),
        (".", "06_models/other/.lock"),
    ],
)
@pytest.mark.slow
def test_a_forbidden_folder_is_named(finished, tmp_path, folder, file):
    data = tmp_path / "data"
    shutil.copytree(finished.path(), data)
    run = "other" if folder == "." else "default"
    for each in ("06_models/default/.lock", "06_models"):
        if folder != "." and each.endswith(".lock"):
            (data / each).unlink()
    forbidden = data / folder if folder != "." else data / "06_models"
    forbidden.chmod(0o555)
    try:
        words = without_root(sys.executable, "-m", "kedro", "run", as_params(data_root=data, run=run))
        result = finished.command(*words)
    finally:
        forbidden.chmod(0o755)
    assert result.returncode == 1, result.stdout
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert file in error
    assert "Permission denied" in error
    assert "Traceback" not in result.stdout + result.stderr
    assert assert_whole(data / "06_models" / "default") == [1, 2]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, and no way to lay it down")
@pytest.mark.slow
def test_an_unreadable_checkpoint_is_named(finished, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(finished.path(), data)
    (data / "06_models/default/vae_epoch_002.pt").chmod(0)
    words = without_root(sys.executable, "-m", "kedro", "run", "--pipelines=evaluate", as_params(data_root=data))
    result = finished.command(*words)
    assert result.returncode == 1
    assert "vae_epoch_002.pt" in result.stderr
    assert "Permission denied" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_may_not_grow_ends_training_with_one_error(finished):
    """RLIMIT_FSIZE, which needs no rights: EFBIG, as at the end of a quota."""
    with running(finished, "--pipelines=train", run="limited") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    (error,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert "06_models/limited/vae_epoch_001.pt: cannot be written: File too large." in error
    assert "Traceback" not in out + err
    assert assert_whole(finished.path("06_models", "limited")) == []


@pytest.mark.slow
def test_a_record_that_cannot_be_ended_does_not_hide_why_the_run_failed(project):
    with running(project, "--pipelines=ingest,train", **MANY) as process:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    (error,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert "cannot be written: File too large." in error
    assert "the run's record could not be ended" in out
    assert "Traceback" not in out + err
    (record,) = json.loads(project.path("07_model_output", "default", "run_record.json").read_text())
    assert record["exit"] is None


@pytest.mark.parametrize("gone", ["data", "data/06_models/default"])
@pytest.mark.parametrize("how", ["removed", "moved"])
@pytest.mark.slow
def test_a_folder_that_vanishes_ends_the_run(project, tmp_path, gone, how):
    with running(project, "--pipelines=ingest,train", **MANY) as process:
        wait_for(lambda: len(list(project.path("06_models", "default").glob("*.pt"))) >= 2, process)
        # The rename makes it vanish in one moment, as an unmounted disk does.
        (project.root / gone).rename(tmp_path / "gone")
        if how == "removed":
            shutil.rmtree(tmp_path / "gone")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    (error,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert str(project.path()) in error
    assert "Traceback" not in out + err
    assert list(project.path("06_models", "default").glob("*.pt")) == []
    if how == "moved":
        found = tmp_path / "gone" if gone.endswith("default") else tmp_path / "gone" / "06_models" / "default"
        epochs = assert_whole(found)
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) >= 2


def test_an_error_of_the_disk_says_path_cause_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = r"file/x: cannot be written: File exists\. It is as it was.*data_root"
    with pytest.raises(WriteError, match=message), atomic_write(tmp_path / "file" / "x"):
        pass


def test_an_error_of_the_disk_names_the_file_once_also_where_a_whole_folder_is_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(WriteError, match=r"file/x: cannot be written: File exists\.") as caught,
        plain_write_errors(tmp_path),
        atomic_write(tmp_path / "file" / "x"),
    ):
        pass
    assert str(caught.value).count("cannot be written") == 1
