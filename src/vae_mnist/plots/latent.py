"""A map of latent space."""

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .captions import Caption
from .pages import FOOTER, HEADER, MARGIN, MUTED, figure_page, font

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ten colours that stay apart for most eyes (Tableau 10).
TABLEAU = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#8a8583",
)  # fmt: skip
KEY_POINTS, KEY_ROW = 13, 22  # size of a label in the key; pixels from row to row
MARK_POINTS, LONGEST = 24, 24  # size of a short label on the map; characters of a long one


def latent_map(means: Tensor, labels: Tensor, caption: Caption, name_of: Callable[[int], str] = str) -> "Figure":
    """Posterior means on their two principal components, coloured by class.

    Args:
        means: (N, Z).
        labels: (N,), from 0 upwards; where all are equal, no class is named.
        caption: the words around it.
        name_of: a class.
    """
    from matplotlib.patheffects import withStroke

    classes = labels.unique().tolist()
    shades, names = class_colours(classes[-1] + 1), [_brief(name_of(label)) for label in classes]
    points, explained = principal_components(means)

    # The key is a table of labels above the axes, flush right: a row has as many as fit, more rows lengthen the page.
    width, breadth = 900, 900 - 3 * MARGIN
    cell = ceil(max(font(KEY_POINTS, "bold").getlength(name) for name in names)) + 10
    columns = max(1, min(len(classes), breadth // cell))
    key_height = (len(classes) - 1) // columns * KEY_ROW
    height = 966 + key_height
    figure = figure_page(width, height, caption)
    bottom, top = (FOOTER + 44) / height, 1 - (HEADER + 14 + key_height) / height
    axes = figure.add_axes((2 * MARGIN / width, bottom, breadth / width, top - bottom))
    x, y = points.numpy().T
    axes.scatter(x, y, c=np.array(shades)[labels.numpy()], s=7, alpha=0.55, linewidths=0)
    size = MARK_POINTS if max(map(len, names)) < 3 else KEY_POINTS  # noqa: PLR2004
    for place, (label, name) in enumerate(zip(classes, names, strict=True) if len(classes) > 1 else ()):
        across, up = points[labels == label].median(dim=0).values.tolist()
        style = {"color": shades[label], "weight": "bold"}
        row, column = divmod(place, columns)
        right = width - MARGIN - (columns - 1 - column) * cell
        down = HEADER + 6 + row * KEY_ROW
        figure.text(right / width, 1 - down / height, name, size=KEY_POINTS, ha="right", **style)
        outline = [withStroke(linewidth=4, foreground="white")]
        axes.annotate(name, (across, up), size=size, ha="center", va="center", path_effects=outline, **style)
    axes.set_xlabel(f"first principal component ({explained[0]:.0%} of the variance)", size=9, color=MUTED)
    axes.set_ylabel(f"second ({explained[1]:.0%})", size=9, color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#e0e0e0")
    return figure


def _brief(name: str) -> str:
    # A name may be a folder's: on one line, and no formula of Matplotlib.
    name = " ".join(name.split()).replace("$", r"\$")
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def class_colours(count: int) -> list[str]:
    """Colours for `count` classes: ten well-known ones, then each as far from those before it as RGB allows."""
    from matplotlib.colors import to_hex, to_rgb

    colours = np.array([to_rgb(colour) for colour in TABLEAU])
    steps = np.linspace(0, 0.8, 6)
    free = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    free = free[free.sum(axis=1) < 2]  # dark enough for a white page  # noqa: PLR2004
    while len(colours) < count:
        gaps = np.linalg.norm(free[:, None] - colours, axis=2).min(axis=1)
        colours = np.vstack([colours, free[gaps.argmax()]])
    return [to_hex(colour) for colour in colours[:count]]


def principal_components(points: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Two principal components (N, 2) float64, and the share of the variance each explains.

    Signs are fixed (the largest weight of each is positive), which keeps a map from flipping between runs.
    One latent dimension gives a second component of zeros.
    """
    centred = points.double() - points.double().mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    variances, directions = variances.flip(0)[:2], directions.flip(1)[:, :2]
    strongest = directions.abs().argmax(dim=0)
    directions = directions * directions.gather(0, strongest.unsqueeze(0)).sign()
    components = centred @ directions
    total = centred.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
    if components.shape[1] == 1:
        components = torch.cat([components, torch.zeros_like(components)], dim=1)
        return components, (1.0, 0.0)
    first, second = (variances / total).tolist()
    return components, (first, second)
