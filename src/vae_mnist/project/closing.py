"""The closing words of a run: what was done, where it lies, and what to type next."""

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from .places import SHARED, folder, shown


def closing_words(pipeline: Pipeline, catalog: DataCatalog) -> str:
    """A few lines for the terminal.

    Args:
        pipeline: the nodes that were run.
        catalog: with their results.
    """
    outputs = pipeline.all_outputs()
    lines = [f"run        {catalog.load('params:run')}"]
    if not SHARED.isdisjoint(pipeline.datasets()) and catalog.exists("data_card"):
        card = catalog.load("data_card")
        lines.append(f"data       {card['title']} ({card['source']})")
    if "history" in outputs and catalog.exists("history"):
        history = catalog.load("history")
        last = history.iloc[-1]
        lines.append(f"epochs     {len(history)}")
        weight = "" if last["beta"] == 1 else f"{last['beta']:g} x "
        lines += [
            f"{split:<5} loss {last[f'{split}_loss']:.2f} nats per image = bce {last[f'{split}_bce']:.2f} "
            f"+ {weight}kld {last[f'{split}_kld']:.2f}"
            for split in ("train", "test")
        ]
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
