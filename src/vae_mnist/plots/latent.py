"""A map of latent space."""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from .captions import Caption
from .pages import FOOTER, HEADER, MARGIN, MUTED, figure_page

# One colour a digit, ten that stay apart for most eyes (Tableau 10).
COLOURS = [
    "#4e79a7",
    "#f28e2b",
    "#e15759",
    "#76b7b2",
    "#59a14f",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#8a8583",
]


def latent_map(means: Tensor, labels: Tensor, caption: Caption) -> Figure:
    """Posterior means on their two principal components, coloured by digit.

    Args:
        means: (N, Z).
        labels: (N,), 0..9.
        caption: the words around it.
    """
    points, explained = principal_components(means)
    width, height = 900, 960
    figure = figure_page(width, height, caption)
    bottom, top = (FOOTER + 44) / height, 1 - (HEADER + 8) / height
    axes = figure.add_axes((MARGIN * 2 / width, bottom, 1 - MARGIN * 3 / width, top - bottom))
    x, y = points.numpy().T
    axes.scatter(x, y, c=np.array(COLOURS)[labels.numpy()], s=7, alpha=0.55, linewidths=0)
    for place, digit in enumerate(digits := labels.unique().tolist()):
        # where classes lie on each other, their names do as well: the key at the top tells them apart
        across = 1 - (MARGIN + 22 * (len(digits) - 1 - place)) / width
        figure.text(
            across, 1 - 44 / height, str(digit), size=13, weight="bold", color=COLOURS[digit], va="top", ha="right"
        )
        across, up = points[labels == digit].median(dim=0).values.tolist()
        axes.annotate(
            str(digit),
            (across, up),
            size=24,
            weight="bold",
            color=COLOURS[digit],
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )
    axes.set_xlabel(f"first principal component ({explained[0]:.0%} of the variance)", size=9, color=MUTED)
    axes.set_ylabel(f"second ({explained[1]:.0%})", size=9, color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#e0e0e0")
    return figure


def principal_components(points: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Two principal components (N, 2) float64, and the share of the variance each explains.

    Signs are fixed (the largest weight of each is positive), so that a map does not flip from one run to the next.
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
