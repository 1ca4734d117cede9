"""Images of squares, ellipses and hearts with known factors, in the spirit of dSprites (Matthey et al. 2017).

Grey images are the full grid of five factors, 3 * 6 * 10 * 10 * 10 = 18,000 images; dSprites has 737,280. In a grid the
factors are independent and each value occurs in at least 1,800 images, as measures of disentanglement need. As many
images drawn at random from a finer grid would be about as good for training, but their factors would be independent
only on average. 18,000 images are rendered within seconds, and an epoch is a quarter of one of MNIST.

Coloured images add the factor hue. Its full grid would have 180,000 images; the set is a tenth of it, a fractional
factorial design (Box & Hunter 1961): given shape, scale and two of rotation, x and y, each hue occurs once. The test
images are such a fraction too: given all but one of rotation, x and y, they have two of its ten values.

Rotations are 0, 9, ..., 81 degrees. A square looks the same after 90 degrees and an ellipse after 180: over the full
circle, as in dSprites, different factors would have the same image. All shapes of one scale have the same area, and
(x, y) is their centroid, around which they turn.

The bytes are the same on every machine because the arithmetic is in integers: the frame has 896 * 896 cells, each of
which is inside or outside the shape, and a pixel is the share of its cells that are inside.
"""

import colorsys
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.images import ImageSet
from ..errors import InputError

SHAPES = ("square", "ellipse", "heart")
# Number of values of each factor, in the order of the columns of a factor table; grey images have no hue.
FACTORS = {"shape": 3, "scale": 6, "rotation": 10, "x": 10, "y": 10, "hue": 10}

CELLS = 896  # along a side of the frame
SIZES = (28, 32, 64, 128)  # pixels a side; a pixel is 32, 28, 14 or 7 cells wide
STEP = 56  # cells between neighbouring positions: 2, 4 and 8 pixels in images of 32, 64 and 128
BOX = CELLS - STEP * (FACTORS["x"] - 1)  # cells along a side of the box that moves and has the shape in its centre
SIDES = (130, 156, 182, 208, 234, 260)  # of the square of each scale, in cells: 0.5, 0.6, ..., 1 of the largest
SATURATION = 0.8  # pure blue can hardly be seen on black

# 65536 cos(9 degrees * k), written down because the last bit of a computed cosine differs between machines.
COSINES = (65536, 64729, 62328, 58393, 53020, 46341, 38521, 29753, 20252, 10252, 0)
UNIT = 2 * 65536  # one cell in the coordinates of a shape; twice, because the centre of a cell is at a half
PI = (355, 113)  # numerator and denominator; the error is 3e-7
PART = 100  # images rendered at once
SEED = 0  # of the order of images


def make_sprites(size: int, channels: int) -> tuple[ImageSet, ImageSet]:
    """Render 14,400 training and 3,600 test images, in random order.

    In each part, the values of any two factors are exactly independent and uniform. A coloured image is in the same
    place as the grey one that has its other factors. 18,000 images of 128 pixels in colour take 0.9 GB.

    Args:
        size: 28, 32, 64 or 128 pixels a side.
        channels: 1, grey, or 3, red, green, blue.

    Returns:
        (train, test); labels are positions in SHAPES, and the columns of factors those of FACTORS, without the last one
        in grey images.

    Raises:
        InputError: another size or number of channels.
    """
    counts = list(FACTORS.values())[:5]
    grid = torch.cartesian_prod(*(torch.arange(count) for count in counts))  # (18000, 5)
    grid = grid[torch.randperm(len(grid), generator=torch.Generator().manual_seed(SEED))]
    # Over the ten values of rotation, x or y, this sum modulo 5 and the one below modulo 10 are uniform.
    is_test = grid.sum(1) % 5 == 0
    if channels == 3:  # noqa: PLR2004
        hue = (grid * torch.tensor([1, 1, 1, 3, 7])).sum(1) % FACTORS["hue"]
        grid = torch.cat([grid, hue[:, None]], dim=1)  # (18000, 6)
    train, test = (
        ImageSet(images=render_sprites(part, size, channels), labels=part[:, 0].clone(), factors=part)
        for part in (grid[~is_test], grid[is_test])
    )
    return train, test


def render_sprites(factors: Tensor, size: int, channels: int) -> Tensor:
    """Render any combinations of factors, antialiased, on black; the same scene at any size.

    x counts from the left, y from the top; rotation is counterclockwise. A heart's tip points down at rotation 0, an
    ellipse is wider than high.

    Args:
        factors: (N, 5) int64, (N, 6) for three channels, values of 0, 1, ... below those of FACTORS.
        size: 28, 32, 64 or 128 pixels a side.
        channels: 1, white, or 3, in the colour of the hue.

    Returns:
        (N, channels, size, size) uint8.

    Raises:
        InputError: another size, number of channels, shape, type or range of factors.
    """
    _check(factors, size, channels)
    images = np.empty((len(factors), channels, size, size), np.uint8)
    table = factors.numpy()
    colours = np.array([[255]] if channels == 1 else _palette(), np.int32)  # (1 or 10, C)
    hues = table[:, 5] if channels > 1 else np.zeros(len(table), np.int64)
    cells = (CELLS // size) ** 2  # of a pixel
    turned, which = np.unique(table[:, :3], axis=0, return_inverse=True)
    for index, (shape, scale, rotation) in enumerate(turned.tolist()):
        area = _area(_mask(SHAPES[shape], SIDES[scale], rotation))
        alike = np.flatnonzero(which.ravel() == index)
        for start in range(0, len(alike), PART):
            rows = alike[start : start + PART]
            covered = _covered(area, table[rows, 3:5], size)[:, None]  # (n, 1, size, size)
            colour = colours[hues[rows], :, None, None]  # (n, C, 1, 1)
            images[rows] = (2 * covered * colour + cells) // (2 * cells)  # rounded
    return torch.from_numpy(images)


def _check(factors: Tensor, size: int, channels: int) -> None:
    if size not in SIZES or channels not in {1, 3}:
        raise InputError(
            f"sprites: expected {', '.join(map(str, SIZES))} pixels a side and 1 or 3 channels, "
            f"got {size} and {channels}."
        )
    counts = torch.tensor(list(FACTORS.values())[: 5 if channels == 1 else 6])
    if factors.dtype != torch.int64 or factors.shape[1:] != counts.shape:
        raise InputError(
            f"sprites: expected factors (N, {len(counts)}) int64 for {channels} channels, "
            f"got {tuple(factors.shape)} {factors.dtype}."
        )
    wrong = ((factors < 0) | (factors >= counts)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise InputError(
            f"sprites: expected values of {list(FACTORS)[column]} in 0..{int(counts[column]) - 1}, "
            f"got {int(factors[row, column])} in row {row} of the factors."
        )


def _palette() -> list[list[int]]:
    """Red, green and blue of each hue, 36 degrees apart. No value is near a half, where rounding could differ."""
    count = FACTORS["hue"]
    return [[round(255 * each) for each in colorsys.hsv_to_rgb(hue / count, SATURATION, 1)] for hue in range(count)]


def _mask(shape: str, side: int, rotation: int) -> NDArray[np.bool_]:
    """Which cells of its box a shape covers: (BOX, BOX); its area is side * side cells."""
    if shape == "square":
        u, v = _coordinates(rotation)
        return np.maximum(abs(u), abs(v)) <= side * UNIT // 2
    if shape == "ellipse":  # (u / 5)^2 + (v / 3)^2 <= side^2 / (15 pi)
        u, v = _coordinates(rotation)
        return 9 * u**2 + 25 * v**2 <= 15 * (side * UNIT) ** 2 * PI[1] // PI[0]
    # A heart is a square that stands on a corner, with half a disc on each of its upper edges. Its area is 1 + pi / 4
    # squares, its centroid (28 + 9 pi) / (12 (4 + pi)) edges away from both lower edges.
    edge = isqrt(4 * (side * UNIT) ** 2 * PI[1] // (4 * PI[1] + PI[0]))
    u, v = (each + edge * (28 * PI[1] + 9 * PI[0]) // (12 * (4 * PI[1] + PI[0])) for each in _coordinates(rotation + 5))
    square = (np.minimum(u, v) >= 0) & (np.maximum(u, v) <= edge)
    left, right = ((2 * a - edge) ** 2 + (2 * b - 2 * edge) ** 2 <= edge**2 for a, b in ((u, v), (v, u)))
    return square | left | right


def _coordinates(turns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates of the cells of a box along the axes of a shape that is turned by 9 degrees `turns` times.

    Returns:
        (u, v), each (BOX, BOX), UNIT to a cell, 0 in the centre of the box.
    """
    cosine = COSINES[turns] if turns <= 10 else -COSINES[20 - turns]  # noqa: PLR2004 a right angle
    sine = COSINES[abs(10 - turns)]
    right = 2 * np.arange(BOX, dtype=np.int64) - (BOX - 1)  # (BOX,), in halves of a cell
    up = -right[:, None]
    return cosine * right + sine * up, cosine * up - sine * right


def _area(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Summed-area table, the covered cells above and left of each corner of a cell: (BOX + 1, BOX + 1)."""
    return np.pad(mask, ((1, 0), (1, 0))).cumsum(0, np.int32).cumsum(1, np.int32)


def _covered(area: NDArray[np.int32], places: NDArray[np.int64], size: int) -> NDArray[np.int32]:
    """Covered cells of each pixel.

    Args:
        area: (BOX + 1, BOX + 1), from `_area`.
        places: (n, 2), values of x and y.
        size: pixels a side.

    Returns:
        (n, size, size).
    """
    edges = np.arange(size + 1) * (CELLS // size)  # (size + 1,), of pixels in the frame
    columns, rows = (edges - STEP * places.T[:, :, None]).clip(0, BOX)  # (n, size + 1) each, in the box
    covered: NDArray[np.int32] = np.diff(np.diff(area[rows[:, :, None], columns[:, None, :]], axis=1), axis=2)
    return covered
