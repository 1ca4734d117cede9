"""Captions: what a figure shows, of which run, on which data."""

from collections.abc import Mapping
from typing import NamedTuple

from ..storage.losses import beside
from ..storage.records import DataCard


class Caption(NamedTuple):
    """Title, one line below it, and the small print."""

    title: str
    subtitle: str
    footer: str

    @classmethod
    def of(
        cls, title: str, run: str, dataset: DataCard, row: Mapping[str, float] | None = None, note: str = ""
    ) -> "Caption":
        """Caption for a run.

        Args:
            title: what the figure shows.
            run: name of the run.
            dataset: the data card.
            row: losses of the epoch shown, if it shows one.
            note: what the losses mean, for figures of losses.
        """
        subtitle = f"run {run}"
        if row is not None:
            loss = row["test_loss"]
            subtitle += f"  ·  epoch {row['epoch']:.0f}  ·  test loss {loss:.2f} nats per image"
            subtitle += beside(loss, row.get("test_neg_elbo", loss), " (negative ELBO {:.2f})")
            subtitle += f"  ·  beta {row['beta']:g}" if row["beta"] != 1 else ""
        sha256 = dataset.sha256
        footer = (
            f"{dataset.title} ({dataset.source})\n"
            f"sha256 of images: training {sha256['train'][:12]}…, test {sha256['test'][:12]}…"
        )
        footer += f"\nLosses: {note}." if note else ""
        return cls(title, subtitle, footer)
