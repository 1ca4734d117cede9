"""The closing words of a run: what was done, where the results are, and what to type next."""

from typing import TYPE_CHECKING

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from ..storage.losses import beside
from .places import SHARED, folder, location, of_all_runs, shown

if TYPE_CHECKING:
    import pandas as pd


def closing_words(pipeline: Pipeline, catalog: DataCatalog) -> str:
    """A few lines for the terminal.

    Args:
        pipeline: the nodes that were run.
        catalog: with their results.
    """
    outputs = pipeline.all_outputs()
    if of_all_runs(pipeline):
        places = (shown(location(catalog, name)) for name in sorted(outputs) if folder(catalog, name))
        return "\n".join(f"written    {place}" for place in places)
    lines = [f"run        {catalog.load('params:run')}"]
    if not SHARED.isdisjoint(pipeline.datasets()) and catalog.exists("data_card"):
        card = catalog.load("data_card")
        lines.append(f"data       {card.title} ({card.source})")
    if "history" in outputs and catalog.exists("history"):
        history = catalog.load("history")
        last = history.iloc[-1]
        lines.append(f"epochs     {len(history)}")
        lines += [f"{split:<5} {_loss(last, split)}" for split in ("train", "test")]
    if "generated_grid" in outputs:
        lines.append(f"pictures   {shown(folder(catalog, 'generated_grid'))}")
    elif "newest_samples" in outputs:
        lines.append(f"pictures   {shown(folder(catalog, 'newest_samples'))}")
        lines.append("next       kedro viz run, or kedro run --pipelines=generate")
    elif "checkpoints" in outputs:
        lines.append(f"models     {shown(folder(catalog, 'checkpoints'))}")
        lines.append("next       kedro run --pipelines=evaluate,report")
    elif "data_card" in outputs:
        lines.append("next       kedro run --pipelines=train")
    return "\n".join(lines)


def _loss(row: "pd.Series[float]", split: str) -> str:
    """The loss and its parts, or those of the negative ELBO where the loss is no weighted sum of them."""
    distortion = str(row.index[2]).removeprefix("train_")
    loss, first, second = (row[f"{split}_{name}"] for name in ("loss", distortion, "kld"))
    text, bound = f"loss {loss:.2f} nats per image", first + second
    if abs(first + row["beta"] * second - loss) < 1e-3 * max(1, abs(loss)):  # of a density it may be negative
        weight = "" if row["beta"] == 1 else f"{row['beta']:g} x "
        text += f" = {distortion} {first:.2f} + {weight}kld {second:.2f}"
        return text + beside(loss, bound, " (negative ELBO {:.2f})")
    return f"{text} (negative ELBO {bound:.2f} = {distortion} {first:.2f} + kld {second:.2f})"
