"""SIGKILL at any instant of `kedro run`: no file is ever half, and what goes on ends where the unbroken run ends.

The long forms make the numbers in docs/reliability.md: pytest -m soak -n 0 -s tests/soak
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.forkserver import start
from ..helpers.project import as_params, without_coverage
from .operations import count_operations

EPOCHS = 5
PARAMS = {
    # all that a checkpoint can hold: an average, a second player's weights, pseudo-inputs, a generator of pixels
    "model__prior": "vamp",
    "model__conditional": "true",
    "objective__name": "factor",
    "train__average": 0.9,
    "train__clip_norm": 100.0,
    "train__optimizer": "muon",
    "train__weight_decay": 0.01,
    "train__binarisation": "dynamic",
    "train__epochs": EPOCHS,
    "train__batch_size": 100,
    "report__sample_side": 2,
    "report__reconstructions": 10,
    "report__interpolation_pairs": 1,
    "report__animation_frames": 3,
}
SOAK = [pytest.mark.soak, pytest.mark.timeout(0)]
LAST = f"vae_epoch_{EPOCHS:03d}.pt"


def read_whole(path):
    """Read a file to its end in the way of its kind; raises if it is not whole."""
    if path.suffix == ".pt":
        read_checkpoint(path)
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        assert path.read_text().endswith("\n")
        pd.read_csv(path)
    elif path.suffix in (".png", ".gif"):
        with Image.open(path) as picture:
            for frame in range(getattr(picture, "n_frames", 1)):
                picture.seek(frame)
                picture.load()
    else:
        raise AssertionError(f"{path}: a file of no known kind")


def read_all(data):
    """How many files there are under data/, all of them whole; locks and the rests of writers apart."""
    files = [path for path in data.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".tmp"]
    for path in files:
        read_whole(path)
    return len(files)


def rests(data):
    return list(data.rglob("*.tmp"))


def bits_that_differ(data, unbroken):
    """Names of what is not bit for bit the same; wall-clock times apart."""
    different = []
    left, right = (read_checkpoint(root / "06_models" / "default" / LAST) for root in (data, unbroken))
    if not same(left, right):
        different.append(LAST)
    for name in ("07_model_output/default/history.csv", "08_reporting/default/loss_table.csv"):
        tables = [pd.read_csv(root / name).drop(columns="seconds") for root in (data, unbroken)]
        if not tables[0].equals(tables[1]):
            different.append(name)
    for path in sorted(unbroken.rglob("*")):
        name = path.relative_to(unbroken)
        if path.suffix in (".png", ".gif", ".safetensors") or path.name in ("metrics.json", "data_card.json"):
            digests = [hashlib.sha256((root / name).read_bytes()).digest() for root in (data, unbroken)]
            if digests[0] != digests[1]:
                different.append(str(name))
    return different


def kedro_run(project, kill_at=None, kill_after=None):
    """Run, and kill at a file operation or after seconds where asked; exit status, file operations and seconds."""
    counter = project.root / "operations"
    command = [sys.executable, "-m", "kedro", "run", as_params(**PARAMS)]
    before = (count_operations, str(project.path()), str(counter), kill_at)
    with start(command, before=before, cwd=project.root, env=without_coverage(), stdout=subprocess.DEVNULL) as process:
        began = time.monotonic()
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode, int(counter.read_text() or 0), time.monotonic() - began


def unbroken_run(project):
    """Run once, and keep its data/ aside; its file operations and seconds."""
    status, operations, seconds = kedro_run(project)
    assert status == 0
    project.path().rename(project.root / "unbroken")
    return operations, seconds


def count_kill(project, tally):
    tally["kills"] += 1
    tally["files read after kills"] += read_all(project.path())
    tally["rests of writers"] += len(rests(project.path()))


def count_end(project, tally):
    """Compare a run that has come to its end with the unbroken one, and begin anew."""
    # Those of the images may belong to a run beside this one, so they stay for an hour.
    assert [path for path in rests(project.path()) if path.parent.name != "05_model_input"] == []
    tally["runs compared"] += 1
    tally["different"] += len(bits_that_differ(project.path(), project.root / "unbroken"))
    shutil.rmtree(project.path())


def kill_at_random(project, kills, seed):
    """Kill runs at random instants, each going on where the last one died, until that many have; what came of it."""
    draw, tally = random.Random(seed), Counter()
    _, seconds = unbroken_run(project)
    while tally["kills"] < kills:
        status, _, _ = kedro_run(project, kill_after=draw.uniform(0, seconds))
        if status == 0:
            tally["ended before the kill"] += 1
            count_end(project, tally)
        else:
            assert status == -signal.SIGKILL
            count_kill(project, tally)
            epochs = len(list(project.path("06_models", "default").glob("*.pt")))
            tally[f"killed with {epochs} epochs"] += 1
    assert kedro_run(project)[0] == 0
    count_end(project, tally)
    return tally


def kill_at_operations(project, chosen):
    """Kill just before the file operations of `chosen(their number)`, each in a run that starts from nothing."""
    tally = Counter()
    tally["operations of an unbroken run"], _ = unbroken_run(project)
    for operation in chosen(tally["operations of an unbroken run"]):
        status, reached, _ = kedro_run(project, kill_at=operation)
        assert (status, reached) == (-signal.SIGKILL, operation)
        count_kill(project, tally)
        assert kedro_run(project)[0] == 0
        count_end(project, tally)
    return tally


@pytest.mark.parametrize(
    ("kills", "seed"), [pytest.param(12, 2, marks=pytest.mark.slow), pytest.param(100, 0, marks=SOAK)]
)
def test_a_run_killed_again_and_again_ends_where_the_unbroken_run_ends(project, kills, seed):
    tally = kill_at_random(project, kills, seed)
    print("random instants:", dict(tally))
    assert tally["kills"] == kills
    assert tally["runs compared"] >= 1
    assert tally["different"] == 0


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow), pytest.param("all", marks=SOAK)])
def test_a_kill_before_any_file_operation_loses_nothing(project, kills):
    draw = random.Random(3)
    tally = kill_at_operations(
        project, lambda count: range(1, count + 1) if kills == "all" else draw.sample(range(1, count + 1), kills)
    )
    print("file operations:", dict(tally))
    assert tally["operations of an unbroken run"] > 100
    assert tally["kills"] == (tally["operations of an unbroken run"] if kills == "all" else kills)
    assert tally["rests of writers"] > 0 or kills == 2, "no kill fell into a writer"
    assert tally["different"] == 0
