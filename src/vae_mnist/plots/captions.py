"""The words on every figure: what it shows, of which run, on which data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

LOSS_NOTE = (
    "grey pixels as Bernoulli means: an upper bound on the NLL of dynamically binarised images, "
    "no density of grey images"
)


class Caption(NamedTuple):
    """Title, one line below it, and the small print."""

    title: str
    subtitle: str
    footer: str

    @classmethod
    def of(
        cls, title: str, run: str, dataset: Mapping[str, Any], row: Mapping[str, float] | None = None, note: str = ""
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
            subtitle += f"  ·  epoch {row['epoch']:.0f}  ·  test loss {row['test_loss']:.2f} nats per image"
            subtitle += f"  ·  beta {row['beta']:g}" if row["beta"] != 1 else ""
        sha256 = dataset["sha256"]
        footer = (
            f"{dataset['title']} ({dataset['source']})\n"
            f"sha256 of digits: training {sha256['train'][:12]}…, test {sha256['test'][:12]}…"
        )
        footer += f"\nLosses in nats per image; {note}." if note else ""
        return cls(title, subtitle, footer)
