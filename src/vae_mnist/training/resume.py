"""The check that a run is resumed with the same settings and the same images."""

import hashlib
from collections.abc import Iterator
from typing import Any

from ..config.model import ModelConfig
from ..config.objective import ObjectiveConfig
from ..config.parameters import TrainConfig
from ..config.types import ParameterGroup
from ..data.images import ImageSet, check_images, images_sha256
from ..errors import DataError, ResumeError
from ..storage.checkpoints import Checkpoint
from ..storage.fields import Split
from ..storage.records import DataCard
from .machine import Precision

# What may differ when a run is resumed: it changes how long or where, not what is computed.
FREE_SETTINGS = frozenset(f"train.{name}" for name in ("epochs", "resume", "keep", "device", "threads", "compile"))
LENGTH = "train.epochs"  # is not free where the learning rate falls towards the end

_NAME = 24  # characters of a suggested run name
_SHORT = {"latent_dim": "z", "hidden_dim": "h", "batch_size": "batch", "learning_rate": "lr"}


def run_settings(
    model: ModelConfig, objective: ObjectiveConfig, config: TrainConfig, precision: Precision
) -> dict[str, Any]:
    """What decides which weights training gives, as {"group.name": value}; of the sub-groups only the chosen ones.

    A precision of auto is stored as what it resolves to here.
    """
    settings = {
        **dict(_flat("model", model)),
        **dict(_flat("objective", objective)),
        **dict(_flat("train", config)),
        "train.precision": precision.name,
    }
    free = FREE_SETTINGS - ({LENGTH} if config.schedule in ("linear", "cosine") else set())
    return {key: value for key, value in settings.items() if key not in free}


def _flat(prefix: str, group: ParameterGroup) -> Iterator[tuple[str, Any]]:
    values = dict(group)
    chosen = {value for value in values.values() if isinstance(value, str)}
    for name, value in values.items():
        if not isinstance(value, ParameterGroup):
            yield f"{prefix}.{name}", list(value) if isinstance(value, tuple) else value
        elif name in chosen:
            yield from _flat(f"{prefix}.{name}", value)


def check_resume(checkpoint: Checkpoint, run: str, settings: dict[str, Any], data_card: DataCard) -> None:
    """Refuse to resume with other settings or other images.

    Raises:
        ResumeError: naming each difference, and both ways on.
    """
    old = checkpoint.settings
    changed = [key for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    differences = [
        f"{key}: the run {run!r} has {_shown(old, key)}, you ask for {_shown(settings, key)}." for key in changed
    ]
    if changed == ["train.precision"]:
        differences[0] += (
            " auto may be either, by what the processor or card is fast at. "
            f"Go on with --params=train.precision={old.get('train.precision')}."
        )
    if checkpoint.dataset.sha256 != data_card.sha256:
        same = checkpoint.dataset.title == data_card.title
        differences.append(
            f"data: the run {run!r} was trained on {checkpoint.dataset.title}; the images now are {data_card.title}"
            + (", but other ones." if same else ".")
        )
    if differences:
        raise ResumeError(
            "\n".join(differences)
            + (" " if len(differences) == 1 else "\n")
            + f"Add run={_name(run, changed, settings)} to --params to train it beside {run!r}, or start over with "
            "--params=train.resume=false."
        )


def check_dataset(checkpoint: Checkpoint, split: Split, image_set: ImageSet) -> None:
    """Refuse other images than those of the training that wrote a checkpoint.

    Raises:
        DataError: naming both.
    """
    check_images(image_set, f"{split}_images")
    expected, found = checkpoint.dataset.sha256[split], images_sha256(image_set)
    if found != expected:
        raise DataError(
            f"{split}_images: expected those of the run, {checkpoint.dataset.title} (sha256 {expected[:12]}…), "
            f"found {len(image_set['labels']):,} others ({found[:12]}…). "
            "Run kedro run --pipelines=ingest with the run's ingest parameters."
        )


def _name(run: str, changed: list[str], settings: dict[str, Any]) -> str:
    """A name made of the changes, model.latent_dim = 16 -> z16, or of a checksum where it would be too long."""
    parts = [(key.rpartition(".")[2], settings[key]) for key in changed if key in settings]
    name = "".join(f"{_SHORT.get(key, key)}{value}" for key, value in parts)
    if 0 < len(name) <= _NAME and name.replace(".", "").replace("_", "").isalnum():
        return name
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()
    return f"{run[:48]}-{digest[:6]}"


def _shown(settings: dict[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "none"
