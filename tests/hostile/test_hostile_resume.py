"""Checkpoints of a run that a stranger changed, or a bad disk: training does not go on from them unseen."""

import logging
import random
import re
import shutil

import pytest
import torch

from vae_mnist.errors import CheckpointError
from vae_mnist.storage.checkpoints import Checkpoint, read_checkpoint

from ..helpers import training
from ..helpers.checkpoints import Command, changed, sealed, torch_saved
from ..helpers.compare import same
from ..helpers.project import Project


@pytest.fixture(scope="module")
def splits(sample_images):
    train, test = sample_images
    return {"train": training.first(train, 450), "test": training.first(test, 100)}


@pytest.fixture(scope="module")
def checkpoint(splits):
    return training.run(splits, training.config(epochs=1))[-1]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("optimizer_state/param_groups/0/lr", 1e9, "expected lr 0.001, found 1000000000.0"),
        ("optimizer_state/param_groups/0/betas", [0.0, 0.0], r"expected betas \[0.9, 0.999\], found \[0.0, 0.0\]"),
        ("optimizer_state/param_groups/0/weight_decay", 0.5, "expected weight_decay 0.0, found 0.5"),
        ("optimizer_state/param_groups/1/initial_lr", 9.0, "expected initial_lr 0.001, found 9.0"),
        ("optimizer_state/param_groups/0/maximize", True, "expected maximize False, found True"),
        ("optimizer_state/param_groups", [], "cannot be resumed"),
        ("optimizer_state/state/3", ..., "'step of parameter 3': expected .* found no such tensor"),
        ("optimizer_state/state/3/exp_avg", ..., "'exp_avg of parameter 3': expected .* found no such tensor"),
        ("optimizer_state/state/3/exp_avg", torch.zeros(9), r"parameter 3': expected \(784, 16\) .*, found \(9,\)"),
        ("model_state/network.posterior.bias", torch.zeros(9), r"bias': expected \(8,\) .*, found \(9,\) float32"),
        ("trained_state/network.posterior.bias", torch.zeros(8), "expected no such tensor, found"),
        ("rng_state", torch.zeros(5056, dtype=torch.uint8), "cannot be resumed"),
        ("rng_state", torch.zeros(10, dtype=torch.uint8), "cannot be resumed"),
        ("scaler_state/scale", 1.0, "scaler_state"),
    ],
)  # fmt: skip
def test_training_does_not_go_on_from_what_it_does_not_write(splits, checkpoint, key, value, text):
    other = Checkpoint(**changed(dict(checkpoint), key, value))
    with pytest.raises(CheckpointError, match=text) as caught:
        training.run(splits, training.config(epochs=2), checkpoint=other)
    assert re.fullmatch("epoch 1 cannot be resumed: .* Start over with --params=train.resume=false.", str(caught.value))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("optimizer_state/param_groups/2/orthogonal", False, "expected orthogonal True, found False"),
        ("optimizer_state/state/7/momentum", ..., "'momentum of parameter 7': expected .* found no such tensor"),
        ("optimizer_state/state/7/momentum", torch.zeros(9), r"parameter 7': expected \(784, 16\) .*, found \(9,\)"),
    ],
)
def test_muon_does_not_go_on_from_what_it_does_not_write(splits, key, value, text):
    checkpoint = training.run(splits, training.config(epochs=1, optimizer="muon"))[-1]
    other = Checkpoint(**changed(dict(checkpoint), key, value))
    with pytest.raises(CheckpointError, match=text):
        training.run(splits, training.config(epochs=2, optimizer="muon"), checkpoint=other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with a run 'unbroken' of three epochs; tests copy that run."""
    project = Project(tmp_path_factory.mktemp("trained") / "project")
    assert project.invoke("--pipelines=ingest,train", run="unbroken", train__epochs=3).exit_code == 0
    return project


@pytest.fixture
def run(trained):
    """A copy of the run: its name and the folder of its checkpoints."""
    name = f"copy{len(list(trained.path('06_models').iterdir()))}"
    for folder in ("06_models", "07_model_output"):
        shutil.copytree(trained.path(folder, "unbroken"), trained.path(folder, name))
    return name, trained.path("06_models", name)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("vae*"))


def flip(path, seed):
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(("damaged", "seed"), [((3,), 1), ((3,), 2), ((3,), 3), ((2, 3), 4), ((1, 2, 3), 5)], ids=str)
def test_a_run_goes_on_from_the_newest_undamaged_checkpoint_and_ends_as_an_unbroken_one(
    trained, run, damaged, seed, caplog
):
    name, folder = run
    for epoch in damaged:
        flip(folder / f"vae_epoch_00{epoch}.pt", seed)
    with caplog.at_level(logging.WARNING):
        result = trained.invoke("--pipelines=train", run=name, train__epochs=3)
    assert result.exit_code == 0
    warnings = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert [message.rpartition("It is now ")[2] for message in warnings] == [
        f"vae_epoch_00{epoch}.pt.damaged." for epoch in reversed(damaged)
    ]
    names = [f"vae_epoch_00{epoch}.pt" for epoch in (1, 2, 3)]
    assert checkpoints(folder) == sorted([*names, *(f"vae_epoch_00{epoch}.pt.damaged" for epoch in damaged)])
    unbroken = trained.path("06_models", "unbroken", "vae_epoch_003.pt")
    assert same(read_checkpoint(unbroken), read_checkpoint(folder / "vae_epoch_003.pt"))


@pytest.mark.slow
def test_starting_over_reads_nothing_and_renames_nothing(trained, run, caplog):
    name, folder = run
    flip(folder / "vae_epoch_003.pt", 1)
    assert trained.invoke("--pipelines=train", run=name, train__epochs=3, train__resume="false").exit_code == 0
    assert "damaged" not in caplog.text
    assert checkpoints(folder) == [f"vae_epoch_00{epoch}.pt" for epoch in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["--pipelines=evaluate", "--nodes=draw_samples", "--pipelines=generate"])
def test_where_nothing_is_trained_damage_is_an_error_that_says_what_to_do(trained, run, word):
    name, folder = run
    flip(folder / "vae_epoch_003.pt", 1)
    result = trained.invoke(word, run=name)
    assert result.exit_code == 1
    assert "vae_epoch_003.pt: damaged: " in result.output
    assert "kedro run renames it and resumes from the one before" in result.output
    assert checkpoints(folder) == [f"vae_epoch_00{epoch}.pt" for epoch in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", ["--pipelines=train", "--pipelines=evaluate", "--nodes=draw_samples", "--pipelines=generate"]
)
def test_no_run_runs_a_command_in_a_checkpoint(trained, run, tmp_path, word):
    name, folder = run
    path, marker = folder / "vae_epoch_003.pt", tmp_path / "it_ran"
    content = sealed(torch_saved(torch.load(path) | {"versions": Command(marker)}))
    path.write_bytes(content)
    result = trained.invoke(word, run=name, train__epochs=4)
    assert result.exit_code == 1
    assert "vae_epoch_003.pt: refused and not executed: it is a pickle that asks for 'posix.system'" in result.output
    assert not marker.exists()
    assert path.read_bytes() == content
    assert checkpoints(folder) == [f"vae_epoch_00{epoch}.pt" for epoch in (1, 2, 3)]
