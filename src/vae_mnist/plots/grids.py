"""Grids of digits, drawn pixel for pixel: nothing is resampled, and no axes stand around a digit."""

import zlib
from collections.abc import Sequence
from os import PathLike
from typing import IO, Any

import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .captions import DPI, FOOTER, HEADER, INK, MARGIN, MUTED, Caption, page

GAP = 4  # pixels between tiles
MIN_WIDTH = 640  # narrower pages would cut their captions
OPAQUE = 255
PAPER = 246  # grey of a tile's ground, so that tiles show on the white page


def sample_grid(images: Tensor, columns: int, caption: Caption) -> Figure:
    """Digits row by row.

    Args:
        images: (N, 1, H, W), pixel means in [0, 1].
        columns: digits to a row.
        caption: the words around it.
    """
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    return _grid(rows, _scale(images, 112), caption)


def reconstruction_grid(originals: Tensor, reconstructions: Tensor, columns: int, caption: Caption) -> Figure:
    """Originals, each above its reconstruction.

    Args:
        originals: (N, 1, H, W) in [0, 1].
        reconstructions: likewise, in the same order.
        columns: digits to a row.
        caption: the words around it.
    """
    rows, breaks = [], []
    for start in range(0, len(originals), columns):
        rows += [originals[start : start + columns], reconstructions[start : start + columns]]
        breaks.append(len(rows) - 1)
    return _grid(rows, _scale(originals, 84), caption, breaks=breaks)


def interpolation_strips(strips: Sequence[Tensor], caption: Caption) -> Figure:
    """One row a path.

    Args:
        strips: (S, 1, H, W) in [0, 1] each: an original, the decoded path, the other original.
        caption: the words around it.
    """
    return _grid(list(strips), _scale(strips[0], 84), caption, set_apart_ends=True)


def traversal_grid(images: Tensor, labels: Sequence[str], caption: Caption) -> Figure:
    """One row a latent dimension, its value growing from left to right.

    Args:
        images: (D x V, 1, H, W) in [0, 1], one dimension after another.
        labels: D, for the left edge.
        caption: the words around it.
    """
    values = len(images) // len(labels)
    return _grid(list(images.split(values)), _scale(images, 84), caption, labels=labels)


def _grid(
    rows: list[Tensor],
    scale: int,
    caption: Caption,
    *,
    labels: Sequence[str] = (),
    breaks: Sequence[int] = (),
    set_apart_ends: bool = False,
) -> Figure:
    height, width = (size * scale for size in rows[0].shape[-2:])
    label_width = 92 if labels else 0
    apart = 4 * GAP if set_apart_ends else 0
    columns = max(len(row) for row in rows)
    content = label_width + columns * (width + GAP) - GAP + 2 * apart
    tops = [index * (height + GAP) + sum(3 * GAP for line in breaks if line < index) for index in range(len(rows))]
    page_width = max(MIN_WIDTH, content + 2 * MARGIN)
    page_height = HEADER + 2 * GAP + tops[-1] + height + 2 * GAP + FOOTER
    figure = page(page_width, page_height, caption)
    _GreyCanvas(figure)
    left = (page_width - content) // 2 + label_width

    canvas = np.full((tops[-1] + height, content - label_width), 255, dtype=np.uint8)
    for top, row in zip(tops, rows, strict=True):
        for column, tile in enumerate(_ink(row, scale)):
            x = column * (width + GAP) + (apart if column > 0 else 0) + (apart if column == columns - 1 else 0)
            canvas[top : top + height, x : x + width] = tile
    figure.add_artist(_Pixels(figure, canvas, left, FOOTER + 2 * GAP))
    for top, label in zip(tops, labels, strict=False):
        y = 1 - (HEADER + 2 * GAP + top + height / 2) / page_height
        figure.text((left - 12) / page_width, y, label, size=9, color=INK, ha="right", va="center")
    if set_apart_ends:
        for x, text in ((left, "original"), (left + content - width, "original")):
            figure.text((x + width / 2) / page_width, 1 - HEADER / page_height, text, size=8, color=MUTED, ha="center")
    return figure


class _Pixels(BboxImage):
    """Grey pixels (H, W) with their lower left corner at (left, bottom), in pixels of the figure.

    A file of the figure's own size holds them as they are, unscaled: Matplotlib would resample them all the same,
    which takes as long as the rest of a grid. At other sizes it does.
    """

    def __init__(self, figure: Figure, grey: NDArray[np.uint8], left: int, bottom: int) -> None:
        height, width = grey.shape
        place = Bbox.from_bounds(left / DPI, bottom / DPI, width / DPI, height / DPI)
        super().__init__(TransformedBbox(place, figure.dpi_scale_trans), origin="upper", interpolation="nearest")
        self.pixels = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        self.set_data(self.pixels[:1, :1])  # Matplotlib copies what it is given, twice

    def make_image(
        self, renderer: RendererBase, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[NDArray[np.uint8], float, float, Affine2D]:
        """As `matplotlib.image` documents it."""
        extent, pixels = self.get_window_extent(renderer), self.pixels
        if unsampled or magnification != 1 or (round(extent.height), round(extent.width)) != pixels.shape[:2]:
            self.set_data(self.pixels)
            return super().make_image(renderer, magnification, unsampled)
        return pixels[::-1], round(extent.x0), round(extent.y0), Affine2D()  # renderers count rows from the bottom


class _GreyCanvas(FigureCanvasAgg):
    """Writes PNG files in grey where nothing has a colour: half the bytes, and a fifth of the time."""

    def print_png(
        self,
        filename_or_obj: str | PathLike[str] | IO[bytes],
        *,
        metadata: dict[str, str | None] | None = None,
        pil_kwargs: dict[str, Any] | None = None,
        **_: object,  # colours of the page and the like, which `savefig` has set already
    ) -> None:
        """As `matplotlib.backends.backend_agg` documents it."""
        self.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(self.buffer_rgba())  # type: ignore[no-untyped-call]
        red, green, blue, alpha = (pixels[..., channel] for channel in range(4))
        if not (np.array_equal(red, green) and np.array_equal(green, blue) and (alpha == OPAQUE).all()):
            super().print_png(filename_or_obj, metadata=metadata, pil_kwargs=pil_kwargs)  # type: ignore[no-untyped-call]
            return
        info = PngInfo()
        for key, text in (metadata or {}).items():
            if text is not None:
                info.add_text(key, text)
        dpi = self.figure.dpi
        options = {"dpi": (dpi, dpi), "pnginfo": info, "compress_type": zlib.Z_RLE} | (pil_kwargs or {})
        Image.fromarray(np.ascontiguousarray(red)).save(filename_or_obj, format="png", **options)


def _ink(images: Tensor, scale: int) -> NDArray[np.uint8]:
    """Digits (N, 1, H, W) as dark ink on paper (N, H', W'), each pixel a square of `scale` screen pixels."""
    grey: NDArray[np.uint8] = np.rint(PAPER * (1 - images[:, 0].clamp(0, 1).numpy())).astype(np.uint8)
    return grey.repeat(scale, axis=1).repeat(scale, axis=2)


def _scale(images: Tensor, pixels: int) -> int:
    """Screen pixels per pixel, so that a tile is about `pixels` wide."""
    return max(1, pixels // images.shape[-1])
