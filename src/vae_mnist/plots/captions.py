"""The words on every figure: what it shows, of which run, on which data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

DPI = 100
INK, MUTED = "#1a1a1a", "#6b6b6b"
HEADER, FOOTER, MARGIN = 72, 52, 28  # pixels

GREYSCALE_NOTE = (
    "Losses: nats per image, grey pixels as Bernoulli means: an upper bound on the NLL of dynamically binarised "
    "digits, no density of grey ones."
)


class Caption(NamedTuple):
    """Title, one line below it, and the small print."""

    title: str
    subtitle: str
    footer: str

    @classmethod
    def of(cls, title: str, run: str, dataset: Mapping[str, Any], row: Mapping[str, float] | None = None) -> "Caption":
        """Caption for a run.

        Args:
            title: what the figure shows.
            run: name of the run.
            dataset: the data card.
            row: losses of the epoch shown, if it shows one.
        """
        subtitle = f"run {run}"
        if row is not None:
            subtitle += f"  ·  epoch {row['epoch']:.0f}  ·  test loss {row['test_loss']:.2f} nats per image"
            subtitle += f"  ·  beta {row['beta']:g}" if row["beta"] != 1 else ""
        sha256 = dataset["sha256"]
        footer = (
            f"{dataset['title']} ({dataset['source']})\n"
            f"sha256 of digits: training {sha256['train'][:12]}…, test {sha256['test'][:12]}…"
        )
        return cls(title, subtitle, footer)

    def with_title(self, title: str) -> "Caption":
        """The same small print under another title."""
        return self._replace(title=title)


def page(width: int, height: int, caption: Caption) -> Figure:
    """A white page of width x height pixels with its caption; the middle is left free.

    The middle starts HEADER pixels from the top and ends FOOTER pixels from the bottom.
    """
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    figure.add_axes((0, 0, 1, 1)).set_axis_off()  # IPython shows no figure without axes
    left = MARGIN / width
    figure.text(left, 1 - 18 / height, caption.title, size=15, weight="bold", color=INK, va="top")
    figure.text(left, 1 - 44 / height, caption.subtitle, size=10, color=MUTED, va="top")
    figure.text(left, 12 / height, caption.footer, size=7, color=MUTED, va="bottom", linespacing=1.5)
    return figure
