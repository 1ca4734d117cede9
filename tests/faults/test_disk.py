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


def on_small_disk(project, size, script):
    """Run a script with data/ on a file system of that size; data/ as it was at the end is then found in kept/."""
    project.path().mkdir(exist_ok=True)
    lines = ["set -e", f"mount -t tmpfs -o size={size} none data", "disk() { mount -o remount,$1 data; }", script]
    whole = "\n".join(["(", *lines, ")", "status=$?; cp -a data kept; exit $status"])
    return project.command("unshare", "-m", "sh", "-c", whole, timeout=300)


def the_error(out, err):
    """The one message of a run that failed."""
    assert "Traceback" not in out + err
    (error,) = (line for line in err.splitlines() if line.startswith("Error: "))
    return error


def whole_epochs(folder):
    """The epochs of the checkpoints, each of which can be read; no rest of a writer lies there."""
    assert [path for path in folder.rglob("*") if path.name.endswith(".tmp")] == []
    return [read_checkpoint(path).epoch for path in sorted(folder.rglob("*.pt"))]


FULL = f"""
    {KEDRO} --pipelines=ingest {as_params()}
    {KEDRO} --pipelines=train {as_params(train__epochs=12)} && exit 9
    ls data/06_models/default/*.pt | wc -l > written.txt
    disk size=60m
    {KEDRO} --pipelines=train {as_params(train__epochs=12)}
"""
# As a file system does when its disk fails: what is open stays so, nothing new can be written.
READ_ONLY = f"""
    {KEDRO} --pipelines=ingest {as_params()}
    {KEDRO} --pipelines=train {as_params(**MANY)} & process=$!
    until [ -e data/06_models/default/vae_epoch_002.pt ]; do kill -0 $process; sleep 0.02; done
    mount --bind data/06_models/default data/06_models/default
    mount -o remount,bind,ro data/06_models/default
    wait $process && exit 9
    umount data/06_models/default
    ls data/06_models/default/*.pt | wc -l > written.txt
    {KEDRO} --pipelines=train {as_params(**MANY)},train.epochs=$(($(cat written.txt) + 1))
"""


@needs_mount
@pytest.mark.parametrize(
    ("size", "script", "cause", "params"),
    [("6m", FULL, "No space left on device", {}), ("200m", READ_ONLY, "Read-only file system", MANY)],
    ids=["full", "read-only"],
)
@pytest.mark.slow
def test_a_disk_that_fails_ends_training_with_one_error_and_lets_it_go_on(
    project, finished, size, script, cause, params
):
    result = on_small_disk(project, size, script)
    assert result.returncode == 0, result.stdout + result.stderr
    written = int((project.root / "written.txt").read_text())
    error = the_error(result.stdout, result.stderr)
    assert f"vae_epoch_{written + 1:03d}.pt: cannot be written: {cause}." in error
    assert "what was finished earlier is whole" in error
    assert f"resumes after epoch {written}" in result.stdout
    kept = project.root / "kept"
    epochs = whole_epochs(kept)
    assert 2 <= written < epochs[-1]
    assert epochs == list(range(1, epochs[-1] + 1))
    unbroken = params | {"run": f"unbroken{size}", "train__epochs": epochs[-1]}
    assert finished.invoke("--pipelines=train", **unbroken).exit_code == 0
    newest = f"vae_epoch_{epochs[-1]:03d}.pt"
    left, right = kept / "06_models" / "default", finished.path("06_models", unbroken["run"])
    assert same(read_checkpoint(left / newest), read_checkpoint(right / newest))


@needs_mount
@pytest.mark.parametrize(
    ("size", "params", "file"),
    [
        ("2m", {}, "05_model_input/train_images.safetensors"),
        ("3500k", {}, "05_model_input/test_images.safetensors"),
        ("5m", {"report__sample_side": 32}, "08_reporting/default/"),
    ],
)
@pytest.mark.slow
def test_a_disk_that_fills_elsewhere_names_the_file(project, size, params, file):
    result = on_small_disk(project, size, f"{KEDRO} {as_params(**params)}")
    assert result.returncode == 1, result.stdout + result.stderr
    error = the_error(result.stdout, result.stderr)
    assert f"/data/{file}" in error
    assert "cannot be written: No space left on device." in error
    whole_epochs(project.root / "kept")


@needs_mount
@pytest.mark.slow
def test_a_read_only_disk_is_named_before_any_work(project):
    result = on_small_disk(project, "60m", f"{KEDRO} {as_params()}\ndisk ro\n{KEDRO} {as_params(train__epochs=3)}")
    assert result.returncode == 1
    error = the_error(result.stdout, result.stderr)
    assert "data/06_models/default/.lock: cannot be locked: " in error
    assert "Read-only file system" in error
    assert whole_epochs(project.root / "kept") == [1, 2]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, and no way to lay it down")
@pytest.mark.parametrize(
    ("forbidden", "mode", "run", "named"),
    [
        ("06_models/default", 0o555, "default", "06_models/default/.lock"),
        ("06_models/default/vae_epoch_002.pt", 0, "default", "vae_epoch_002.pt"),
        ("06_models", 0o555, "other", "06_models/other/.lock"),
        ("07_model_output/default", 0o555, "default", "07_model_output/default/run_record.json"),
        ("08_reporting/default", 0o555, "default", "08_reporting/default/"),
    ],
)
@pytest.mark.slow
def test_what_is_forbidden_is_named(finished, tmp_path, forbidden, mode, run, named):
    data = tmp_path / "data"
    shutil.copytree(finished.path(), data)
    (data / "06_models/default/.lock").unlink()
    (data / forbidden).chmod(mode)
    words = [sys.executable, "-m", "kedro", "run", as_params(data_root=data, run=run)]
    if os.geteuid() == 0:  # or its rights would not be those that the files give
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *words]
    try:
        result = finished.command(*words)
    finally:
        (data / forbidden).chmod(0o755)
    assert result.returncode == 1, result.stdout
    error = the_error(result.stdout, result.stderr)
    assert named in error
    assert "Permission denied" in error
    assert whole_epochs(data / "06_models" / "default") == [1, 2]


def test_a_file_that_may_not_grow_ends_training_with_one_error(finished):
    """RLIMIT_FSIZE, which needs no rights: EFBIG, as at the end of a quota."""
    with running(finished, "--pipelines=train", run="limited") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "06_models/limited/vae_epoch_001.pt: cannot be written: File too large." in the_error(out, err)
    assert whole_epochs(finished.path("06_models", "limited")) == []


@pytest.mark.slow
def test_a_record_that_cannot_be_ended_does_not_hide_why_the_run_failed(project):
    with running(project, "--pipelines=ingest,train", **MANY) as process:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot be written: File too large." in the_error(out, err)
    assert "the run's record could not be ended" in out
    (record,) = json.loads(project.path("07_model_output", "default", "run_record.json").read_text())
    assert record["exit"] is None


@pytest.mark.parametrize("gone", ["data", "data/06_models/default"])
@pytest.mark.slow
def test_a_folder_that_vanishes_ends_the_run(project, tmp_path, gone):
    models = project.path("06_models", "default")
    with running(project, "--pipelines=ingest,train", **MANY) as process:
        wait_for(lambda: len(list(models.glob("*.pt"))) >= 2, process)
        (project.root / gone).rename(tmp_path / "gone")  # in one moment, as an unmounted disk vanishes
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(project.path()) in the_error(out, err)
    assert list(models.glob("*.pt")) == []
    # A writer at work when its folder vanished has no way to remove its temporary file.
    epochs = [read_checkpoint(path).epoch for path in sorted((tmp_path / "gone").rglob("*.pt"))]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= 2


def test_an_error_of_the_disk_says_path_cause_and_what_to_do_once_also_where_a_whole_folder_is_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = r"file/x: cannot be written: File exists\. It is as it was.*data_root"
    with (
        pytest.raises(WriteError, match=message) as caught,
        plain_write_errors(tmp_path),
        atomic_write(tmp_path / "file" / "x"),
    ):
        pass
    assert str(caught.value).count("cannot be written") == 1
