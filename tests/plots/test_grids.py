import io

import numpy as np
import pytest
import torch

from vae_mnist.errors import InputError
from vae_mnist.plots import interpolation_strips, reconstruction_grid, sample_grid, traversal_grid
from vae_mnist.plots.grids import GAP, PAPER
from vae_mnist.plots.pages import FOOTER, HEADER, MARGIN

TOP = HEADER + 2 * GAP


def blocks(page, x, y, images, scale):
    """The squares of one tile: (H, W, scale, scale, C)."""
    height, width = images.shape[-2:]
    tile = np.asarray(page)[y : y + height * scale, x : x + width * scale]
    return tile.reshape(height, scale, width, scale, -1).swapaxes(1, 2)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_each_pixel_is_a_square_of_its_colour_grey_ones_as_ink_on_paper(noise, caption, channels, mode):
    images = noise(64, channels, 28, 28)
    page = sample_grid(images, 8, caption)
    assert page.mode == mode
    shades = PAPER * (1 - images) if channels == 1 else 255 * images
    for index in (0, 9, 63):
        row, column = divmod(index, 8)
        shown = blocks(page, MARGIN + column * (112 + GAP), TOP + row * (112 + GAP), images, 4)
        expected = np.rint(shades[index].permute(1, 2, 0).numpy())[:, :, None, None]
        assert (shown == expected).all()


@pytest.mark.parametrize(
    ("shape", "scale"), [((64, 64), 1), ((20, 30), 3), ((30, 20), 3), ((8, 8), 14), ((200, 10), 1), ((10, 200), 1)]
)
@pytest.mark.parametrize("count", [1, 3, 7])
def test_images_of_any_size_and_number_are_shown_whole(caption, shape, scale, count):
    black = sample_grid(torch.ones(count, 1, *shape), 3, caption)  # no letter is as black
    assert (np.asarray(black) == 0).sum() == count * shape[0] * shape[1] * scale**2
    assert black.width >= 640


def test_values_beyond_the_range_are_clipped(caption):
    page = np.asarray(sample_grid(torch.tensor([-7.0, 7.0]).view(2, 1, 1, 1), 2, caption))
    assert [(page[TOP : TOP + 112] == shade).sum() for shade in (PAPER, 0)] == [112**2, 112**2]


def test_originals_stand_above_their_reconstructions_and_pairs_apart(caption):
    page = np.asarray(reconstruction_grid(torch.zeros(8, 1, 28, 28), torch.ones(8, 1, 28, 28), 4, caption))
    column = page[:, page.shape[1] // 2 - 40]
    starts = [TOP + start for start in (0, 84 + GAP, 2 * 84 + 5 * GAP, 3 * 84 + 6 * GAP)]
    assert [column[start] for start in starts] == [PAPER, 0, PAPER, 0]
    assert [column[start - 1] for start in starts] == [255] * 4
    assert page.shape[0] == starts[-1] + 84 + 2 * GAP + FOOTER


def test_the_ends_of_a_path_stand_apart_and_are_called_originals(caption):
    page = np.asarray(interpolation_strips([torch.ones(5, 1, 28, 28)] * 2, caption))
    line = np.flatnonzero(np.diff(page[TOP + 40].astype(int) == 0))  # where tiles begin and end
    assert (line[2::2] - line[1:-1:2]).tolist() == [5 * GAP, GAP, GAP, 5 * GAP]
    words = np.flatnonzero((page[60:TOP] < 200).any(0))  # original … original
    assert all(line[0] < x < line[1] or line[-2] < x < line[-1] for x in words)
    assert words.min() < line[1] < line[-2] < words.max()


def test_each_row_of_a_traversal_has_its_label_beside_it(caption):
    images = torch.zeros(6, 1, 28, 28)
    pages = [np.asarray(traversal_grid(images, [first, "z7\n0.50 nats"], caption)) for first in ("z1\n1.95 nats", "")]
    rows, columns = np.nonzero(pages[0] != pages[1])
    assert TOP < rows.min() <= rows.max() < TOP + 84
    tiles = np.flatnonzero((pages[0] == PAPER)[TOP + 84 // 2])
    assert MARGIN <= columns.min() <= columns.max() < tiles[0]
    long = np.asarray(traversal_grid(images, ["z1", "a much longer label " * 5], caption))
    assert (long[:, :MARGIN] == 255).all()


def test_the_same_images_make_the_same_file(noise, caption):
    images = noise(5, 3, 9, 9)
    before = images.clone()
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        sample_grid(images.requires_grad_(), 2, caption).save(file, "png")
    assert files[0].getvalue() == files[1].getvalue()
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda caption: sample_grid(torch.zeros(0, 1, 8, 8), 2, caption), r"got \(0, 1, 8, 8\) torch.float32"),
        (lambda caption: sample_grid(torch.zeros(4, 2, 8, 8), 2, caption), r"got \(2, 2, 8, 8\) torch.float32"),
        (lambda caption: sample_grid(torch.zeros(4, 8, 8), 2, caption), r"got \(2, 8, 8\) torch.float32"),
        (lambda caption: sample_grid(torch.zeros(4, 1, 8, 8).byte(), 2, caption), r"expected floats .* torch.uint8"),
        (lambda caption: interpolation_strips([], caption), "at least one and all of one size, got none"),
        (
            lambda caption: interpolation_strips([torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 9, 9)], caption),
            r"got \(2, 1, 8, 8\) torch.float32, \(2, 1, 9, 9\)",
        ),
        (
            lambda caption: reconstruction_grid(torch.zeros(4, 1, 8, 8), torch.zeros(3, 1, 8, 8), 2, caption),
            r"the shape of the originals, \(4, 1, 8, 8\), got \(3, 1, 8, 8\)",
        ),
        (lambda caption: traversal_grid(torch.zeros(4, 1, 8, 8), ["a"] * 3, caption), "each of 3 labels, got 4 in all"),
        (lambda caption: traversal_grid(torch.zeros(4, 1, 8, 8), [], caption), "each of 0 labels, got 4 in all"),
    ],
)
def test_images_that_make_no_grid_are_refused(caption, draw, message):
    with pytest.raises(InputError, match=message):
        draw(caption)
