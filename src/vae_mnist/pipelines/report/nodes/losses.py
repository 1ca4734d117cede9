"""The losses of a run as a table and as curves."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from ....config.model import ModelConfig
from ....models.build import build_likelihood
from ....models.likelihoods import loss_words
from ....plots import Caption, interactive_loss_curves, loss_curves
from ....storage.checkpoints import Checkpoint
from ....storage.records import DataCard

Partitions = dict[str, Callable[[], Checkpoint]]

SPLITS = ("train_", "test_", "validation_")
# What a column is, whatever the likelihood and the objective are; split names are left out.
COLUMNS = {
    "epoch": "counted from 1",
    "kld": "rate KL(q(z|x) || p(z)), summed over latent dimensions",
    "seconds": "wall time of the training pass",
    "learning_rate": "of the epoch's last step",
    "beta": "weight in force at the end of the epoch: of kld, or of the term that the objective weighs",
    "skipped_steps": "steps without an update, because float16 overflowed",
    "run": "name of the run",
    "data": "name of the data set and numbers of its images",
}


def make_loss_table(checkpoints: Partitions, history: pd.DataFrame, run: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row an epoch, with run and data in each, and a companion that says what the columns mean.

    Args:
        checkpoints: oldest first.
        history: as training wrote it.
        run: the run's name.
    """
    checkpoint = list(checkpoints.values())[-1]()
    likelihood = build_likelihood(ModelConfig(**checkpoint.model), checkpoint.image_shape[0])
    nats = [column for column in history.columns if column.startswith(SPLITS)]
    # four decimals to read; the history keeps every digit
    table = history.round(dict.fromkeys(nats, 4) | {"seconds": 2}).assign(run=run, data=checkpoint.dataset.title)
    card = {
        "run": run,
        "dataset": checkpoint.dataset.model_dump(),
        "unit": "nats per image, averaged over images; lower is better",
        "note": loss_words(likelihood.words, checkpoint.settings.get("train.binarisation", "none")),
        "columns": _described(list(table.columns), likelihood.name, checkpoint),
    }
    return table, card


# Kedro looks up the types of a node: those of figures are left out, because they would import what draws them.
def draw_loss_curves(table: pd.DataFrame, card: dict[str, Any]) -> tuple[object, object]:
    """The loss and its parts over the epochs, as a figure of Matplotlib and of Plotly."""
    last = {str(name): value for name, value in table.iloc[-1].items()}
    caption = Caption.of("Loss over the epochs", card["run"], DataCard(**card["dataset"]), last, card["note"])
    return loss_curves(table, caption), interactive_loss_curves(table, caption)


def _described(columns: list[str], distortion: str, checkpoint: Checkpoint) -> dict[str, str]:
    """What each column of the table holds; training, test and validation have one text."""
    objective = checkpoint.objective["name"]
    texts = COLUMNS | {
        "loss": f"what was minimised: the objective {objective}, with its weights and bounds on the rate",
        distortion: f"distortion -log p(x|z) of the {checkpoint.model['likelihood']} likelihood, summed over pixels",
        "neg_elbo": f"{distortion} + kld: the negative evidence lower bound, the loss at beta 1",
    }
    described, further = {}, f"further term of the objective {objective}, or of its training"
    for column in columns:
        split = next((split for split in SPLITS if column.startswith(split)), "")
        name = column.removeprefix(split)
        described[name] = texts.get(name, further) if split else texts[name]
    return described
