"""White pages with a caption. Pillow draws grids, Matplotlib draws axes; the text is in the same place on both."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from .captions import Caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
INK, MUTED = "#1a1a1a", "#6b6b6b"
HEADER, FOOTER, MARGIN = 72, 52, 28  # pixels: the middle of a page begins below HEADER and ends above FOOTER


def figure_page(width: int, height: int, caption: Caption) -> "Figure":
    """A page of width x height pixels for Matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    for text, baseline, points, weight, colour in _lines(caption, width, height):
        x, y = MARGIN / width, 1 - baseline / height
        # parse_math: a folder's name may hold two dollar signs
        figure.text(x, y, text, size=points, weight=weight, color=colour, parse_math=False)
    return figure


def write_caption(picture: Image.Image, caption: Caption) -> ImageDraw.ImageDraw:
    """Write the caption on a white picture, in place; returns what draws on it."""
    draw = ImageDraw.Draw(picture)
    for text, baseline, points, weight, colour in _lines(caption, *picture.size):
        draw.text((MARGIN, baseline), text, fill=colour, font=font(points, weight), anchor="ls")
    return draw


@cache
def font(points: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    """Matplotlib's own DejaVu Sans, normal or bold, as large as Matplotlib draws it at DPI."""
    from matplotlib import get_data_path

    path = Path(get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if weight == 'bold' else ''}.ttf")
    # Pillow's own layout: the other one is not on every machine, and places letters elsewhere.
    return ImageFont.truetype(path, points * DPI / 72, layout_engine=ImageFont.Layout.BASIC)


def _lines(caption: Caption, width: int, height: int) -> Iterator[tuple[str, int, int, str, str]]:
    """Text, pixels from the top to its baseline, points, weight and colour; too long a text loses its middle."""
    lines = [(caption.title, 34, 15, "bold", INK), (caption.subtitle, 55, 10, "normal", MUTED)]
    small_print = reversed(caption.footer.split("\n"))
    lines += [(text, height - 17 - 15 * below, 7, "normal", MUTED) for below, text in enumerate(small_print)]
    room = width - 2 * MARGIN
    for text, baseline, points, weight, colour in lines:
        length, fitting = font(points, weight).getlength, text
        kept = int(len(text) * room / max(room, length(text)))
        while length(fitting) > room:
            kept -= 1
            fitting = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        yield fitting, baseline, points, weight, colour
