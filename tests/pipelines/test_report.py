"""The report: which files there are, that they show what they say, and that making them again changes nothing."""

import json
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vae_mnist.config.parameters import ReportConfig
from vae_mnist.data.images import images_sha256
from vae_mnist.models import model_from_checkpoint
from vae_mnist.pipelines.report.nodes import (
    animate_samples,
    draw_interpolations,
    draw_latent_map,
    draw_loss_curves,
    draw_traversal,
    make_loss_table,
)
from vae_mnist.plots import Caption, traversal_grid
from vae_mnist.plots.pages import FOOTER, HEADER
from vae_mnist.sampling import traverse
from vae_mnist.storage.checkpoints import read_checkpoint, weights_digest

from ..helpers.project import LOSS_COLUMNS
from ..helpers.training import config as training

PICTURES = [
    "samples.png", "recons.png", "loss_curves.png", "interpolations.png", "latent_map.png", "traversal.png",
    "samples/sample_epoch_001.png", "samples/sample_epoch_002.png",
    "recons/recon_epoch_001.png", "recons/recon_epoch_002.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(finished):
    return finished.path("08_reporting", "default")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_report_is_complete(folder):
    tables = ["loss_table.csv", "loss_table.json", "loss_curves.json", "samples.gif"]
    assert sorted(set(contents(folder)) - set(PICTURES)) == sorted(tables)
    assert set(PICTURES) <= set(contents(folder))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_large_enough_to_look_at_and_not_empty(folder, name):
    with Image.open(folder / name) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) >= 400
    assert pixels.std() > 10


def test_the_newest_grid_is_that_of_the_last_epoch(folder):
    assert (folder / "samples.png").read_bytes() == (folder / "samples" / "sample_epoch_002.png").read_bytes()
    assert (folder / "recons.png").read_bytes() == (folder / "recons" / "recon_epoch_002.png").read_bytes()
    assert (folder / "samples.png").read_bytes() != (folder / "samples" / "sample_epoch_001.png").read_bytes()


@pytest.mark.parametrize(("limit", "shown"), [(1, [255]), (3, [0, 119, 255]), (60, [0, 68, 119, 187, 255])])
def test_the_animation_takes_epochs_in_order_and_evenly_thinned(limit, shown):
    config = ReportConfig.model_construct(animation_frames=limit, animation_frame_ms=300)
    epochs = {1000: 119, 1001: 187, 1002: 255, 998: 0, 999: 68}  # as their names are sorted
    pages = {f"sample_epoch_{epoch}": partial(Image.new, "L", (4, 4), ink) for epoch, ink in epochs.items()}
    frames = animate_samples(pages, config)
    assert [frame.convert("L").getpixel((0, 0)) for frame in frames] == shown


def test_codes_of_an_older_epoch_are_refused(finished):
    assert finished.invoke("--pipelines=train,evaluate", run="stale", train__epochs=1).exit_code == 0
    assert finished.invoke("--pipelines=train", run="stale").exit_code == 0
    for node in ("draw_latent_map", "draw_traversal"):
        result = finished.invoke(f"--nodes={node}", run="stale")
        assert result.exit_code == 1
        assert (
            "Error: test_codes: expected those of epoch 2 of run stale, found others. "
            "Run kedro run --pipelines=evaluate first." in result.output
        )


def test_the_map_shows_a_limited_number_of_codes(checkpoint_path, sample_images, monkeypatch):
    monkeypatch.setattr("vae_mnist.pipelines.report.nodes.pictures.MAP_LIMIT", 300)
    checkpoint, image_set = read_checkpoint(checkpoint_path), sample_images[1]
    means = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    codes = {
        "means": means,
        "kl": torch.ones(4),
        "groups": torch.tensor([4]),
        "weights": weights_digest(checkpoint.model_state),
    }
    figure = draw_latent_map({"vae_epoch_002": lambda: checkpoint}, image_set, codes, "few")
    assert len(figure.axes[0].collections[0].get_offsets()) == 300
    assert figure.texts[0].get_text() == "Where the first 300 of 1,000 test images lie in latent space"


def test_a_traversal_starts_from_the_first_code_and_takes_the_most_active_dimensions(checkpoint_path, sample_images):
    checkpoint = read_checkpoint(checkpoint_path)
    config = ReportConfig.model_construct(traversal_dims=2, traversal_range=3.0, traversal_steps=5)
    means = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    codes = {
        "means": means,
        "kl": torch.tensor([1, 4, 2, 3]),
        "groups": torch.tensor([4]),
        "weights": weights_digest(checkpoint.model_state),
    }
    page = draw_traversal({"vae_epoch_002": lambda: checkpoint}, sample_images[1], codes, "few", config, training())
    images = traverse(model_from_checkpoint(checkpoint), means[:1], [1, 3], torch.linspace(-3, 3, 5))
    caption = Caption.of(
        "The most active latent dimensions, from -3 to 3", "few", checkpoint.dataset, checkpoint.history[-1]
    )
    assert page == traversal_grid(images, ["z1\n4.00 nats", "z3\n3.00 nats"], caption)


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_test_images_make_shorter_paths_not_an_error(checkpoint_path, sample_images, count):
    image_set = {name: tensor[:count] for name, tensor in sample_images[1].items()}
    checkpoint = read_checkpoint(checkpoint_path)
    checkpoint.dataset.sha256["test"] = images_sha256(image_set)
    config = ReportConfig.model_construct(interpolation_pairs=6, interpolation_steps=3)
    page = draw_interpolations({"vae_epoch_002": lambda: checkpoint}, image_set, "few", config, training())
    rows = max(1, count // 2)
    assert page.height == HEADER + FOOTER + 2 * 8 + rows * 84 + (rows - 1) * 4


def test_a_damaged_picture_is_named(finished):
    samples = finished.path("08_reporting", "default", "samples", "sample_epoch_001.png")
    whole = samples.read_bytes()
    samples.write_bytes(whole[:5000])
    try:
        result = finished.invoke("--nodes=animate_samples")
        assert result.exit_code != 0
        assert "sample_epoch_001.png: cannot be read" in result.output
    finally:
        samples.write_bytes(whole)


def test_the_loss_table_says_run_and_data_in_every_row(folder, finished):
    table = pd.read_csv(folder / "loss_table.csv")
    history = pd.read_csv(finished.path("07_model_output", "default", "history.csv"))
    assert list(table.columns)[:9] == LOSS_COLUMNS
    assert list(table.columns) == [*history.columns, "run", "data"]
    pd.testing.assert_frame_equal(
        table[history.columns].drop(columns="seconds"), history.drop(columns="seconds"), atol=6e-5, rtol=0
    )
    assert table["test_loss"].astype(str).str.fullmatch(r"\d+\.\d{1,4}").all()
    assert set(table["run"]) == {"default"}
    assert table["data"].str.contains("5,000-digit sample").all()


def test_the_tables_companion_says_what_it_holds(folder, finished):
    card = json.loads((folder / "loss_table.json").read_text(encoding="utf-8"))
    data_card = json.loads(finished.path("05_model_input", "data_card.json").read_text(encoding="utf-8"))
    assert card["dataset"] == data_card
    assert "no density of grey images" in card["note"]
    assert card["unit"].startswith("nats per image")
    table = pd.read_csv(folder / "loss_table.csv")
    assert list(card["columns"]) == list(dict.fromkeys(re.sub("^(train|test)_", "", name) for name in table.columns))
    assert card["columns"]["bce"] == "distortion -log p(x|z) of the bernoulli likelihood, summed over pixels"


def card_and_table(checkpoint, history):
    return make_loss_table({"vae_epoch_002": lambda: checkpoint}, history, "few")[::-1]


def test_the_table_follows_the_names_of_likelihood_and_objective(checkpoint_path):
    checkpoint = read_checkpoint(checkpoint_path)
    history = pd.DataFrame(checkpoint.history).rename(columns=lambda name: name.replace("bce", "nll"))
    model, objective = checkpoint.model | {"likelihood": "gaussian"}, checkpoint.objective | {"name": "iwae"}
    other = checkpoint.model_copy(update={"model": model, "objective": objective})
    card, table = card_and_table(other, history.assign(test_total_correlation=1.23456))
    assert card["columns"]["nll"] == "distortion -log p(x|z) of the gaussian likelihood, summed over pixels"
    assert card["columns"]["total_correlation"].startswith("further term of the objective iwae")
    assert "bce" not in str(card)
    assert "density of pixel values (Gaussian with one learned scale)" in card["note"]
    assert table["test_total_correlation"].tolist() == [1.2346] * 2


@pytest.mark.parametrize("binarisation", ["dynamic", "static"])
def test_losses_of_binarised_pixels_are_not_called_grey(checkpoint_path, binarisation):
    checkpoint = read_checkpoint(checkpoint_path)
    settings = checkpoint.settings | {"train.binarisation": binarisation}
    card, table = card_and_table(checkpoint.model_copy(update={"settings": settings}), pd.DataFrame(checkpoint.history))
    assert "binary pixels" in card["note"]
    assert "grey" not in card["note"]
    footer = [text.get_text() for text in draw_loss_curves(table, card)[0].texts]
    assert f"Losses: {card['note']}." in footer


def test_the_interactive_curves_say_data_and_note(folder):
    figure = json.loads((folder / "loss_curves.json").read_text(encoding="utf-8"))
    footer = figure["layout"]["annotations"][-1]["text"].replace("<br>", " ")
    assert "5,000-digit sample" in footer
    assert json.loads((folder / "loss_table.json").read_text(encoding="utf-8"))["note"] in footer


def test_the_report_runs_on_its_own_and_makes_the_same_files_again(finished, folder):
    before = contents(folder)
    result = finished.run("--pipelines=report")
    assert "DeprecationWarning" not in result.stdout + result.stderr
    assert contents(folder) == before


@pytest.mark.slow
def test_grids_of_an_earlier_training_do_not_stay(project):
    assert project.invoke(train__epochs=3).exit_code == 0
    assert project.invoke(train__epochs=1, train__resume="false").exit_code == 0
    names = set(contents(project.path("08_reporting", "default")))
    assert "samples/sample_epoch_001.png" in names
    assert not {name for name in names if "002" in name or "003" in name}


@pytest.mark.parametrize("pipeline", ["report", "evaluate", "generate"])
def test_before_any_training_it_says_what_to_do(project, pipeline):
    result = project.invoke(f"--pipelines={pipeline}")
    assert result.exit_code == 1
    assert "Error: no checkpoints of run 'default' under" in result.output
    assert result.output.rstrip().endswith("run kedro run first")
    assert "Traceback" not in result.output
