"""Loss curves: one panel each for the loss and its parts, with training and test in each."""

from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING

import pandas as pd

from ..storage.losses import is_bound
from .captions import Caption
from .pages import FOOTER, HEADER, INK, MUTED, figure_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

FITTED = 4  # epochs from which on the first, whose losses dwarf all changes after it, may lie beyond the axes
COLOURS = {"train": "#9aa5b1", "validation": "#2a9d8f", "test": "#d1495b"}


def loss_curves(table: pd.DataFrame, caption: Caption) -> "Figure":
    """A panel over epochs for each part of the loss, at most four in a row.

    Args:
        table: one row an epoch, columns epoch, train_loss, train_bce (or another distortion), train_kld, …, in nats per
            image.
        caption: the words around it.
    """
    from matplotlib.ticker import MaxNLocator

    panels = _panels(table)
    columns, rows = min(len(panels), 4), ceil(len(panels) / 4)
    width, height = 30 + 390 * columns, 470 + 336 * (rows - 1)
    figure = figure_page(width, height, caption)
    across, down = 1200 / width, 470 / height  # the sizes below are those of one row of three
    bottom, top = (FOOTER + 52) / 470, 1 - (HEADER + 34) / 470
    breadth = 0.18 if "validation_loss" in table.columns else 0.21  # room for the longer names beside a panel
    for index, (part, title) in enumerate(panels.items()):
        row, column = divmod(index, columns)
        left, above = (0.045 + column * 0.325) * across, (rows - 1 - row) * 336 / height
        axes = figure.add_axes((left, bottom * down + above, breadth * across, (top - bottom) * down))
        axes.set_title(title, size=10, color=INK, loc="left")
        splits = _splits(table, part)
        ranked = sorted(splits, key=lambda split: splits[split].iloc[-1])  # names beside their lines, none on another
        for split, values in splits.items():
            marks = 3.5 if len(table) < 60 else 0  # noqa: PLR2004
            axes.plot(table["epoch"], values, color=COLOURS[split], lw=2, marker="o", ms=marks)
            axes.annotate(
                f"{split} {values.iloc[-1]:.1f}",
                (table["epoch"].iloc[-1], values.iloc[-1]),
                xytext=(7, 12 * (ranked.index(split) - (len(ranked) - 1) / 2) - 3),
                textcoords="offset points",
                size=9,
                color=COLOURS[split],
                annotation_clip=False,
            )
        if fitted := len(table) >= FITTED:
            later = pd.concat([values.iloc[1:] for values in splits.values()])
            margin = 0.05 * (later.max() - later.min()) or 1.0
            axes.set_ylim(later.min() - margin, later.max() + margin)
        label = "epoch (axes fit all after the first)" if fitted else "epoch"
        axes.set_xlabel(label, size=9, color=MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    return figure


def interactive_loss_curves(table: pd.DataFrame, caption: Caption) -> "PlotlyFigure":
    """The same panels for a browser; arguments as for `loss_curves`."""
    from plotly.subplots import make_subplots

    panels = _panels(table)
    columns, rows = min(len(panels), 4), ceil(len(panels) / 4)
    titles = [title.partition(",")[0].partition(" (")[0] for title in panels.values()]
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles)
    for index, (part, title) in enumerate(panels.items()):
        unit = title.partition(",")[2]
        for split, values in _splits(table, part).items():
            figure.add_scatter(
                x=table["epoch"].tolist(),
                y=values.tolist(),
                mode="lines+markers",
                name=split,
                legendgroup=split,
                showlegend=index == 0,
                line={"color": COLOURS[split]},
                hovertemplate=f"epoch %{{x}}<br>{split} {part} %{{y:.2f}}{unit}<extra></extra>",
                row=index // columns + 1,
                col=index % columns + 1,
            )
    title = f"{caption.title}<br><sup>{caption.subtitle}</sup>"
    figure.update_layout(title={"text": title}, template="plotly_white", margin={"b": 110})
    if rows > 1:
        figure.update_layout(height=450 * rows)
    lines = [piece for line in caption.footer.split("\n") for piece in wrap(line, 110)]
    below = {"xref": "paper", "yref": "paper", "x": 0, "y": -0.16, "yanchor": "top"}
    small = {"showarrow": False, "align": "left", "font": {"size": 9, "color": MUTED}}
    figure.add_annotation(text="<br>".join(lines), **below, **small)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="nats per image", col=1)
    return figure


def _panels(table: pd.DataFrame) -> dict[str, str]:
    """The parts to draw, as the columns name them without the split, each with its title.

    The negative ELBO is one of them where it differs from the loss: losses of different objectives do not compare.
    """
    loss, distortion, kld, *more = (name.removeprefix("train_") for name in table.columns if name.startswith("train_"))
    panels = {
        loss: "Loss, nats per image",
        distortion: f"{distortion.upper()} (reconstruction), nats per image",
        kld: "KLD (posterior to prior), nats per image",
    }
    bound, losses = _splits(table, "neg_elbo"), _splits(table, loss)
    if not all(is_bound(*pair) for split in bound for pair in zip(losses[split], bound[split], strict=True)):
        panels["neg_elbo"] = "Negative ELBO (beta 1), nats per image"
    # Further terms of the objective, not all of them in nats; what only training has, its gradients say, is no loss.
    terms = [name for name in more if name != "neg_elbo" and f"test_{name}" in table.columns]
    return panels | {name: _words(name) for name in terms}


def _words(name: str) -> str:
    return name.replace("_wise", "-wise").replace("_", " ").capitalize().replace(" kl", " KL")


def _splits(table: pd.DataFrame, part: str) -> dict[str, "pd.Series[float]"]:
    return {split: table[f"{split}_{part}"] for split in COLOURS if f"{split}_{part}" in table.columns}
