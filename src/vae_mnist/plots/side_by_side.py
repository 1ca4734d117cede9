"""Images of several models, a row a model; images of one row have one size, which may differ between rows."""

from collections.abc import Mapping
from math import ceil
from textwrap import wrap

import numpy as np
from PIL import Image
from torch import Tensor

from .captions import Caption
from .grids import GAP, LABEL_POINTS, MIN_WIDTH, as_tiles
from .pages import FOOTER, HEADER, INK, MARGIN, MUTED, font, write_caption

SIDE = 84  # pixels of the longer side of an image, about
WORDS = 90  # characters of a line where there are no images


def side_by_side(rows: Mapping[str, Tensor | str], caption: Caption) -> Image.Image:
    """One row a model.

    Args:
        rows: by the words for the left edge, images (N, 1 or 3, H, W) in [0, 1], or why there are none.
        caption: the words around it.
    """
    strips = [_strip(row) if isinstance(row, Tensor) else row for row in rows.values()]
    words = [line for label in rows for line in label.split("\n")]
    label_width = 12 + ceil(max(map(font(LABEL_POINTS).getlength, words)))
    widths = [WORDS * 6 if isinstance(strip, str) else strip.width for strip in strips]
    heights = [SIDE // 2 if isinstance(strip, str) else strip.height for strip in strips]
    top, width = HEADER + 2 * GAP, max(MIN_WIDTH, label_width + max(widths) + 2 * MARGIN)
    page = Image.new("RGB", (width, top + sum(heights) + 2 * GAP * len(rows) + FOOTER), "white")
    draw, left = write_caption(page, caption), MARGIN + label_width
    for label, strip, height in zip(rows, strips, heights, strict=True):
        place = (left - 12, top + height / 2)
        draw.text(place, label, fill=INK, font=font(LABEL_POINTS), anchor="rm", align="right")
        if isinstance(strip, str):
            text = "\n".join(wrap(strip, WORDS, max_lines=3, placeholder=" …"))
            draw.text((left, top + height / 2), text, fill=MUTED, font=font(8), anchor="lm")
        else:
            page.paste(strip, (left, top))
        top += height + 2 * GAP
    return page


def _strip(images: Tensor) -> Image.Image:
    drawn = as_tiles(images, SIDE)  # (N, H', W', C)
    padded = np.pad(drawn, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)[:, :-GAP]
    return Image.fromarray(strip.squeeze(2) if strip.shape[2] == 1 else strip).convert("RGB")
