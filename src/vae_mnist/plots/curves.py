"""Loss curves: one panel each for loss, BCE and KLD, with training and test in each."""

from textwrap import wrap
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .captions import Caption
from .pages import FOOTER, HEADER, INK, MUTED, figure_page

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

PARTS = {"loss": "Loss", "bce": "BCE (reconstruction)", "kld": "KLD (posterior to prior)"}
COLOURS = {"train": "#9aa5b1", "validation": "#2a9d8f", "test": "#d1495b"}


def loss_curves(table: pd.DataFrame, caption: Caption) -> Figure:
    """Three panels over epochs.

    Args:
        table: one row an epoch, columns epoch, train_loss, train_bce, …, in nats per image.
        caption: the words around it.
    """
    width, height = 1200, 470
    figure = figure_page(width, height, caption)
    bottom, top = (FOOTER + 52) / height, 1 - (HEADER + 34) / height
    breadth = 0.2 if "validation_loss" in table.columns else 0.245  # room for the longer names beside a panel
    for index, (part, name) in enumerate(PARTS.items()):
        axes = figure.add_axes((0.045 + index * 0.325, bottom, breadth, top - bottom))
        axes.set_title(f"{name}, nats per image", size=10, color=INK, loc="left")
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
        axes.set_xlabel("epoch", size=9, color=MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    return figure


def interactive_loss_curves(table: pd.DataFrame, caption: Caption) -> "PlotlyFigure":
    """The same three panels for a browser; arguments as for `loss_curves`."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=3, subplot_titles=[name.partition(" ")[0] for name in PARTS.values()])
    for column, part in enumerate(PARTS, start=1):
        for split, values in _splits(table, part).items():
            figure.add_scatter(
                x=table["epoch"].tolist(),
                y=values.tolist(),
                mode="lines+markers",
                name=split,
                legendgroup=split,
                showlegend=column == 1,
                line={"color": COLOURS[split]},
                hovertemplate=f"epoch %{{x}}<br>{split} {part} %{{y:.2f}} nats per image<extra></extra>",
                row=1,
                col=column,
            )
    title = f"{caption.title}<br><sup>{caption.subtitle}</sup>"
    figure.update_layout(title={"text": title}, template="plotly_white", margin={"b": 110})
    lines = [piece for line in caption.footer.split("\n") for piece in wrap(line, 110)]
    below = {"xref": "paper", "yref": "paper", "x": 0, "y": -0.16, "yanchor": "top"}
    small = {"showarrow": False, "align": "left", "font": {"size": 9, "color": MUTED}}
    figure.add_annotation(text="<br>".join(lines), **below, **small)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="nats per image", col=1)
    return figure


def _splits(table: pd.DataFrame, part: str) -> dict[str, "pd.Series[float]"]:
    return {split: table[f"{split}_{part}"] for split in COLOURS if f"{split}_{part}" in table.columns}
