"""Ctrl-C and SIGTERM, sent to real `kedro run` processes."""

import json
import re
import signal
from contextlib import suppress

import pytest

from vae_mnist.datasets.checkpoints import CheckpointsDataset
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.marks import slow_after
from ..helpers.processes import MANY, running, wait_for


def seen(err):
    """What a user sees. In tests Python shows ResourceWarnings as well: the signal may come as a file is opened."""
    before, mark, after = err.partition("Stopped by ")
    assert before == "" or "ResourceWarning: unclosed file" in before
    return mark + after


@pytest.mark.parametrize(
    ("number", "changes", "again"),
    slow_after(
        1,
        [
            (signal.SIGTERM, {}, "the same command again"),
            (signal.SIGINT, {"train__resume": "false"}, "the same command without train.resume=false"),
        ],
    ),
)
def test_a_stopped_run_ends_with_one_line_and_goes_on(ingested, number, changes, again):
    folder = ingested.path("06_models", "default")
    with running(ingested, "--pipelines=train", **MANY, **changes) as process:
        wait_for(lambda: len(list(folder.glob("*.pt"))) >= 3, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert seen(err) == (
        f"Stopped by {number.name}. What was finished, every logged epoch included, is safe; to go on: {again}.\n"
    )
    assert "Traceback" not in out
    logged = [int(epoch) for epoch in re.findall(r" epoch +(\d+)/400 ", out)]
    left = sorted(int(path.stem[-3:]) for path in folder.glob("*.pt"))
    assert logged == list(range(1, len(logged) + 1))
    assert left[: len(logged)] == logged
    assert len(left) <= len(logged) + 1  # stopped between writing an epoch and saying so
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []
    record = json.loads(ingested.path("07_model_output", "default", "run_record.json").read_text())[-1]
    assert record["exit"] == f"stopped by {number.name}"
    assert record["ended"] >= record["started"]

    end = len(left) + 1
    assert ingested.run("--pipelines=train", **(MANY | {"train__epochs": end})).returncode == 0
    assert ingested.run("--pipelines=train", run="unbroken", **(MANY | {"train__epochs": end})).returncode == 0
    name = f"vae_epoch_{end:03d}.pt"
    assert same(read_checkpoint(folder / name), read_checkpoint(folder.parent / "unbroken" / name))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_lost_where_it_arrives_stops_the_run_all_the_same(ingested, number, monkeypatch):
    """As Python loses it in __del__, in a weakref's callback, and in its own copyreg."""
    save = CheckpointsDataset.save

    def save_and_lose_the_signal(dataset, checkpoints):
        save(dataset, checkpoints)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)

    monkeypatch.setattr(CheckpointsDataset, "save", save_and_lose_the_signal)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = ingested.invoke("--pipelines=train")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 128 + number
    assert f"Stopped by {number.name}." in result.output
    assert [path.name for path in ingested.path("06_models", "default").glob("*.pt")] == ["vae_epoch_001.pt"]
    monkeypatch.undo()
    assert ingested.invoke("--pipelines=train").exit_code == 0  # nothing asks the next run to stop


@pytest.mark.slow
def test_a_report_can_be_stopped_as_well(finished):
    pictures = finished.path("08_reporting", "stopped", "samples")
    assert finished.invoke("--pipelines=train,evaluate", run="stopped", train__epochs=8).exit_code == 0
    with running(finished, "--pipelines=report", run="stopped") as process:
        wait_for(lambda: len(list(pictures.glob("*.png"))) >= 2, process)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert seen(err).startswith("Stopped by SIGINT.")
    assert seen(err).count("\n") == 1
    assert len(list(pictures.glob("*.png"))) < 8
    assert finished.invoke("--pipelines=report", "--nodes=draw_samples", run="stopped").exit_code == 0
    assert len(list(pictures.glob("*.png"))) == 8
