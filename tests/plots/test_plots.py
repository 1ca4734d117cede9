"""Figures: each pixel where it belongs, the words around it, and the same file each time."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from vae_mnist import plots
from vae_mnist.plots.captions import FOOTER, HEADER, MARGIN
from vae_mnist.plots.grids import GAP, PAPER
from vae_mnist.plots.latent import principal_components

CARD = {
    "title": "some digits: 3 training + 2 test digits",
    "source": "files under here",
    "sha256": {"train": "a" * 64, "test": "b" * 64},
}
ROW = {"epoch": 7, "test_loss": 103.456, "beta": 1.0}
CAPTION = plots.Caption.of("A title", "z16", CARD, ROW)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def picture(figure):
    return Image.open(io.BytesIO(png(figure)))


def pixels(figure):
    return np.asarray(picture(figure).convert("L"))


def words(figure):
    return "\n".join(text.get_text() for text in figure.texts)


def table(epochs, validation=False):
    splits = ("train", "test", "validation") if validation else ("train", "test")
    columns = {f"{split}_{part}": np.linspace(200, 100, epochs) for split in splits for part in ("loss", "bce", "kld")}
    return pd.DataFrame({"epoch": range(1, epochs + 1), **columns})


def test_a_caption_says_run_epoch_loss_data_source_and_checksums():
    assert CAPTION.subtitle == "run z16  ·  epoch 7  ·  test loss 103.46 nats per image"
    assert "some digits: 3 training + 2 test digits (files under here)" in CAPTION.footer
    assert "training aaaaaaaaaaaa…, test bbbbbbbbbbbb…" in CAPTION.footer
    assert "beta 4" in plots.Caption.of("t", "r", CARD, ROW | {"beta": 4.0}).subtitle


def test_every_figure_carries_its_caption():
    digits, labels = torch.linspace(0, 1, 20 * 784).view(20, 1, 28, 28), torch.arange(20) % 10
    figures = [
        plots.sample_grid(digits, 5, CAPTION),
        plots.reconstruction_grid(digits, digits, 5, CAPTION),
        plots.interpolation_strips([digits[:6]], CAPTION),
        plots.traversal_grid(digits, ["z1", "z2"], CAPTION),
        plots.latent_map(torch.linspace(0, 1, 80).view(20, 4), labels, CAPTION),
        plots.loss_curves(table(3), CAPTION),
    ]
    for figure in figures:
        assert all(part in words(figure) for part in (CAPTION.title, CAPTION.subtitle, CAPTION.footer))


def test_each_pixel_of_a_digit_is_a_square_of_the_grid():
    """Nothing is resampled: every square has exactly the grey of its pixel, ink on paper."""
    digits = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    picture = pixels(plots.sample_grid(digits, 8, CAPTION))
    scale, tile = 4, 4 * 28
    top = HEADER + 2 * GAP
    for index in (0, 9, 63):
        row, column = divmod(index, 8)
        y, x = top + row * (tile + GAP), MARGIN + column * (tile + GAP)
        expected = np.rint(PAPER * (1 - digits[index, 0].numpy()))
        shown = picture[y : y + tile, x : x + tile]
        assert np.array_equal(shown[::scale, ::scale], expected)
        assert np.array_equal(shown[::scale, ::scale], shown[scale - 1 :: scale, scale - 1 :: scale])


def test_a_grid_saved_at_twice_the_size_is_the_same_page():
    """As a notebook on a fine screen does: digits grow with the words, and stay where they are."""
    figure = plots.sample_grid(torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)), 8, CAPTION)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=2 * figure.dpi)
    large = np.asarray(Image.open(file).convert("L"), dtype=int)
    middle = slice(HEADER, -FOOTER)  # between the words, whose edges are smoothed
    small = pixels(figure)[middle].astype(int)
    assert np.abs(large[::2, ::2][middle] - small).max() <= 1
    assert np.abs(large[1::2, 1::2][middle] - small).max() <= 1


@pytest.mark.parametrize(
    "options", [{}, {"dpi": 200}, {"bbox_inches": "tight", "pad_inches": 0.3}, {"facecolor": "0.5"}]
)
def test_a_grid_is_written_in_grey_with_the_pixels_that_have_a_colour_elsewhere(options):
    figure = plots.sample_grid(torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)), 8, CAPTION)
    files = io.BytesIO(), io.BytesIO()
    words = {"metadata": {"Title": "digits", "Software": None}, "pil_kwargs": {"compress_level": 1}}
    figure.savefig(files[0], format="png", **words, **options)
    FigureCanvasAgg(figure)
    figure.savefig(files[1], format="png", **words, **options)
    grey, coloured = map(Image.open, files)
    assert (grey.mode, coloured.mode) == ("L", "RGBA")
    assert np.array_equal(np.asarray(grey.convert("RGBA")), np.asarray(coloured))
    assert grey.text == coloured.text == {"Title": "digits"}
    assert grey.info["dpi"] == coloured.info["dpi"]


def test_what_has_a_colour_or_shows_the_page_below_keeps_it():
    digits, file = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), io.BytesIO()
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        figure = plots.sample_grid(digits, 2, CAPTION)
        figure.patch.set_facecolor([part / 255 for part in colour])
        assert picture(figure).convert("RGB").getpixel((0, 0)) == colour
    plots.sample_grid(digits, 2, CAPTION).savefig(file, format="png", transparent=True)
    assert Image.open(file).getpixel((0, 0))[3] == 0


def test_a_vector_file_holds_the_digits():
    digits = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    file = io.BytesIO()
    figure = plots.sample_grid(digits, 2, CAPTION)
    figure.savefig(file, format="svg")
    image = re.search(
        r'<image xlink:href="data:image/png;base64,([^"]+)"[^>]* width="([\d.]+)"', file.getvalue().decode()
    )
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(image[1]))).convert("L"))
    assert float(image[2]) == pytest.approx((2 * 112 + GAP) * 72 / figure.dpi)  # points
    greys = {*np.rint(PAPER * (1 - digits.numpy())).astype(int).ravel()}
    assert greys <= {*shown.ravel()}


def test_originals_stand_above_their_reconstructions():
    white, black = torch.zeros(4, 1, 28, 28), torch.ones(4, 1, 28, 28)
    picture = pixels(plots.reconstruction_grid(white, black, 4, CAPTION))
    top = HEADER + 2 * GAP
    middle = picture[:, picture.shape[1] // 2 - 40]
    assert middle[top + 5] == PAPER
    assert middle[top + 84 + GAP + 5] == 0


@pytest.mark.parametrize("count", [1, 7])
def test_few_digits_make_a_page_as_well(count):
    picture = pixels(plots.sample_grid(torch.ones(count, 1, 28, 28), 8, CAPTION))
    assert picture.shape[1] >= 640
    assert (picture == 0).sum() >= count * 112 * 112


def test_images_of_other_sizes_fit():
    for side in (8, 32, 200):
        assert pixels(plots.sample_grid(torch.ones(4, 1, side, side), 2, CAPTION)).shape[0] > HEADER + FOOTER + 2 * side


def test_the_same_data_make_the_same_file():
    digits = torch.linspace(0, 1, 4 * 784).view(4, 1, 28, 28)
    assert png(plots.sample_grid(digits, 2, CAPTION)) == png(plots.sample_grid(digits, 2, CAPTION))
    assert png(plots.loss_curves(table(5), CAPTION)) == png(plots.loss_curves(table(5), CAPTION))


@pytest.mark.parametrize("epochs", [1, 3, 200])
@pytest.mark.parametrize("validation", [False, True])
def test_loss_curves_show_three_parts_of_each_split(epochs, validation):
    figure = plots.loss_curves(table(epochs, validation), CAPTION)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left").split()[0].rstrip(",") for axes in panels] == ["Loss", "BCE", "KLD"]
    assert all(len(axes.lines) == (3 if validation else 2) for axes in panels)
    assert "no density of grey ones" in words(figure)


def test_interactive_curves_hold_the_same_numbers():
    figure = plots.interactive_loss_curves(table(4, validation=True), CAPTION)
    assert len(figure.data) == 9
    assert list(figure.data[0].y) == table(4)["train_loss"].tolist()


def test_principal_components_are_those_of_the_singular_value_decomposition():
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.1])
    found, shares = principal_components(points)
    centred = points.double() - points.double().mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    torch.testing.assert_close(found.abs(), expected.abs())
    assert shares == pytest.approx((values.square() / values.square().sum())[:2].tolist())


def test_principal_components_do_not_flip():
    """The largest weight of each direction is positive, whatever sign the eigenvectors came with."""
    for seed in range(20):
        points = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed))
        components, _ = principal_components(points)
        weights = (points.double() - points.double().mean(0)).T @ components  # (3, 2), in proportion to the directions
        assert (weights.gather(0, weights.abs().argmax(0, keepdim=True)) > 0).all()


def test_one_latent_dimension_can_be_mapped():
    components, shares = principal_components(torch.arange(4.0).view(4, 1))
    assert components.shape == (4, 2)
    assert shares == (1.0, 0.0)
    labels = torch.arange(4)
    assert pixels(plots.latent_map(torch.arange(4.0).view(4, 1), labels, CAPTION)).std() > 5


def test_frames_of_an_animation_are_the_pictures_and_the_last_one_stays():
    pictures = [picture(plots.sample_grid(torch.full((4, 1, 28, 28), ink), 2, CAPTION)) for ink in (0.0, 1.0)]
    first, last = plots.animation(pictures, 100)
    assert (first.info["duration"], last.info["duration"]) == (100, 500)
    assert np.abs(np.asarray(last.convert("L"), dtype=int) - np.asarray(pictures[1].convert("L"))).max() <= 8
    assert np.asarray(first.convert("L")).mean() > np.asarray(last.convert("L")).mean()
