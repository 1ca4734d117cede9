"""Rate against distortion of several runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .captions import Caption
from .latent import class_colours
from .pages import DPI, FOOTER, HEADER, INK, MUTED, figure_page, font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, GAP = 640, 90  # pixels
NAME_POINTS, LONGEST = 8, 28  # size of a name, and characters that are shown of it
LINES = 6  # of equal ELBO, at most


class Point(NamedTuple):
    """A run."""

    name: str
    rate: float  # nats per image
    distortion: float
    curve: str  # points of one curve differ in beta, and in the seed
    beta: float


def rate_distortion(panels: Mapping[str, Sequence[Point]], caption: Caption) -> "Figure":
    """A panel for each kind of images; a curve joins the means of the points of each beta (Alemi et al. 2018).

    Args:
        panels: what was measured on, and the runs measured on it.
        caption: the words around it.
    """
    panels = panels or {"no run has rate and distortion": []}
    width, height = GAP + len(panels) * (PANEL + GAP), HEADER + 34 + PANEL + 56 + FOOTER
    figure = figure_page(width, height, caption)
    for number, (title, points) in enumerate(panels.items()):
        left, bottom = (GAP + number * (PANEL + GAP)) / width, (FOOTER + 56) / height
        axes = figure.add_axes((left, bottom, PANEL / width, PANEL / height))
        axes.set_title(title, size=10, color=INK, loc="left", parse_math=False)
        if points:
            _draw(axes, points)
    return figure


def _draw(axes: "Axes", points: Sequence[Point]) -> None:
    curves = list(dict.fromkeys(point.curve for point in points))
    shades = dict(zip(curves, class_colours(len(curves)), strict=True))
    _limits(axes, points)
    _equal_elbo(axes)
    for curve, shade in shades.items():
        own = [point for point in points if point.curve == curve]
        betas = sorted({point.beta for point in own})
        middles = [
            np.mean([(each.rate, each.distortion) for each in own if each.beta == beta], axis=0) for beta in betas
        ]
        axes.plot(*np.transpose(middles), color=shade, lw=1.5, alpha=0.6)
        axes.plot([each.rate for each in own], [each.distortion for each in own], "o", color=shade, ms=6)
    _names(axes, points, shades)
    axes.set_xlabel("rate, nats per image", size=9, color=MUTED)
    axes.set_ylabel("distortion, nats per image", size=9, color=MUTED)
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    axes.spines[:].set_color("#e0e0e0")


def _limits(axes: "Axes", points: Sequence[Point]) -> None:
    """Both axes of one scale would squeeze one of them; more room on the right is for the names."""
    x, y = [point.rate for point in points], [point.distortion for point in points]
    wide, high = (max(each) - min(each) or 1.0 for each in (x, y))
    axes.set_xlim(min(x) - 0.12 * wide, max(x) + 0.42 * wide)
    axes.set_ylim(min(y) - 0.12 * high, max(y) + 0.12 * high)


def _equal_elbo(axes: "Axes") -> None:
    """Dashed lines along which rate + distortion, the negative ELBO, is a round number."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(LINES).tick_values(left + low, right + high):
        start, end = max(left, total - high), min(right, total - low)
        if end - start < 0.2 * (right - left):  # too short for its words
            continue
        axes.plot([start, end], [total - start, total - end], color="#b8b8b8", lw=0.8, ls=(0, (5, 4)), zorder=0)
        (x1, y1), (x2, y2) = axes.transData.transform([(start, total - start), (end, total - end)])
        axes.annotate(
            f"negative ELBO {total:g}",
            (start + 0.02 * (right - left), total - start - 0.02 * (right - left)),
            rotation=np.degrees(np.arctan2(y2 - y1, x2 - x1)),
            rotation_mode="anchor",
            size=7,
            color=MUTED,
            va="top",
        )


def _names(axes: "Axes", points: Sequence[Point], shades: Mapping[str, str]) -> None:
    """Names on the right of their points, moved down where they would cover another."""
    length, row = font(NAME_POINTS).getlength, NAME_POINTS * DPI / 72 * 1.25
    taken: list[tuple[float, float, float]] = []  # left and right end and middle, in pixels
    for point in sorted(points, key=lambda point: -point.distortion):
        x, y = axes.transData.transform((point.rate, point.distortion))
        name = point.name if len(point.name) <= LONGEST else f"{point.name[: LONGEST // 2]}…{point.name[-9:]}"
        left, right, middle = x + 8, x + 8 + length(name), y
        for other in sorted(taken, key=lambda each: -each[2]):
            if left < other[1] and other[0] < right and abs(middle - other[2]) < row:
                middle = other[2] - row
        taken.append((left, right, middle))
        axes.annotate(
            name,
            (point.rate, point.distortion),
            xytext=((left - x) * 72 / DPI, (middle - y) * 72 / DPI),
            textcoords="offset points",
            size=NAME_POINTS,
            color=shades[point.curve],
            va="center",
            parse_math=False,
        )
