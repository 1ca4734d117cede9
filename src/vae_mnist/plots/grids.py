"""Grids of images, drawn pixel for pixel: nothing is resampled, and images have no axes."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import InputError
from .captions import Caption
from .pages import FOOTER, HEADER, INK, MARGIN, MUTED, font, write_caption

GAP = 4  # pixels between tiles
MIN_WIDTH = 640  # of a page, for its caption
LABEL_POINTS = 9
PAPER = 246  # ground of a grey tile, so that it shows on the white page


def sample_grid(images: Tensor, columns: int, caption: Caption) -> Image.Image:
    """Images row by row.

    Args:
        images: (N, 1, H, W), grey, or (N, 3, H, W), in colour; pixel means in [0, 1], values beyond are clipped.
        columns: images to a row.
        caption: the words around it.

    Raises:
        InputError: no images, or another shape or type; so for all grids.
    """
    return _grid(images.split(columns), 112, caption)


def reconstruction_grid(originals: Tensor, reconstructions: Tensor, columns: int, caption: Caption) -> Image.Image:
    """Originals, each above its reconstruction.

    Args:
        originals: (N, C, H, W) as for `sample_grid`.
        reconstructions: likewise, in the same order.
        columns: images to a row.
        caption: the words around it.
    """
    if originals.shape != reconstructions.shape:
        raise InputError(
            f"reconstructions: expected the shape of the originals, {tuple(originals.shape)}, "
            f"got {tuple(reconstructions.shape)}."
        )
    pairs = zip(originals.split(columns), reconstructions.split(columns), strict=True)
    return _grid([row for pair in pairs for row in pair], 84, caption, in_pairs=True)


def interpolation_strips(strips: Sequence[Tensor], caption: Caption) -> Image.Image:
    """One row a path.

    Args:
        strips: (S, C, H, W) each, as for `sample_grid`: an original, the decoded path, the other original.
        caption: the words around it.
    """
    return _grid(strips, 84, caption, set_apart_ends=True)


def traversal_grid(images: Tensor, labels: Sequence[str], caption: Caption) -> Image.Image:
    """One row a latent dimension, its value growing from left to right.

    Args:
        images: (D x V, C, H, W) as for `sample_grid`, one dimension after another.
        labels: D, for the left edge.
        caption: the words around it.
    """
    if not labels or len(images) % len(labels):
        raise InputError(f"images: expected as many for each of {len(labels)} labels, got {len(images)} in all.")
    return _grid(images.split(len(images) // len(labels)), 84, caption, labels=labels)


def _grid(
    rows: Sequence[Tensor],
    side: int,
    caption: Caption,
    *,
    labels: Sequence[str] = (),
    in_pairs: bool = False,
    set_apart_ends: bool = False,
) -> Image.Image:
    """A page of tiles, each about `side` pixels on its longer side."""
    _check(rows)
    tiles = [as_tiles(row, side) for row in rows]  # (N, H', W', C) each
    _, height, width, channels = tiles[0].shape
    columns = max(map(len, tiles))
    words = [line for label in labels for line in label.split("\n")]
    label_width = 12 + ceil(max(map(font(LABEL_POINTS).getlength, words))) if words else 0
    apart = 4 * GAP if set_apart_ends else 0
    x = [column * (width + GAP) + apart * ((column > 0) + (column == columns - 1)) for column in range(columns)]
    y = [index * (height + GAP) + (3 * GAP * (index // 2) if in_pairs else 0) for index in range(len(rows))]
    page_width = max(MIN_WIDTH, label_width + x[-1] + width + 2 * MARGIN)
    left, top = (page_width + label_width - x[-1] - width) // 2, HEADER + 2 * GAP

    page = np.full((top + y[-1] + height + 2 * GAP + FOOTER, page_width, channels), 255, dtype=np.uint8)
    for row, start in zip(tiles, y, strict=True):
        for tile, column in zip(row, x, strict=False):
            page[top + start : top + start + height, left + column : left + column + width] = tile
    picture = Image.fromarray(page.squeeze(2) if channels == 1 else page)
    draw = write_caption(picture, caption)
    for label, start in zip(labels, y, strict=False):
        place = (left - 12, top + start + height / 2)
        draw.text(place, label, fill=INK, font=font(LABEL_POINTS), anchor="rm", align="right")
    if set_apart_ends:
        for column in (x[0], x[-1]):
            draw.text((left + column + width / 2, HEADER), "original", fill=MUTED, font=font(8), anchor="ms")
    return picture


def as_tiles(images: Tensor, side: int) -> NDArray[np.uint8]:
    """Tiles (N, H', W', C) of images (N, C, H, W), each pixel a square; grey ones as dark ink on paper."""
    scale = max(1, side // max(images.shape[2:]))
    values = images.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    shades = PAPER * (1 - values) if values.shape[3] == 1 else 255 * values
    tiles: NDArray[np.uint8] = np.rint(shades).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    return tiles


def _check(rows: Sequence[Tensor]) -> None:
    fits = [
        row.ndim == 4 and row.shape[1] in {1, 3} and row.numel() > 0 and row.is_floating_point()  # noqa: PLR2004
        for row in rows
    ]
    if not rows or not all(fits) or len({row.shape[1:] for row in rows}) > 1:
        found = dict.fromkeys(f"{tuple(row.shape)} {row.dtype}" for row in rows)
        raise InputError(
            "images: expected floats (N, 1, H, W) or (N, 3, H, W), at least one and all of one size, got "
            f"{', '.join(found) or 'none'}."
        )
