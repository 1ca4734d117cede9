"""What all kinds of measures need."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ....config.parameters import TrainConfig
from ....data.images import ImageSet
from ....models import VAE, model_from_checkpoint
from ....storage.checkpoints import Checkpoint
from ....storage.fields import Split
from ....training.machine import Machine, resolve_machine
from ....training.resume import check_dataset

Partitions = dict[str, Callable[[], Checkpoint]]  # oldest first


class Newest(NamedTuple):
    """The newest checkpoint of a run, and its model in place on the machine that measures."""

    checkpoint: Checkpoint
    model: VAE
    machine: Machine


def newest(checkpoints: Partitions, image_set: Mapping[Split, ImageSet], train: TrainConfig) -> Newest:
    """Read it, and refuse other images than it was trained with.

    Args:
        checkpoints: oldest first.
        image_set: those to measure with.
        train: device, precision and threads.

    Raises:
        ConfigError: the device or precision is not available.
        DataError: other images than the run's.
    """
    checkpoint, machine = list(checkpoints.values())[-1](), resolve_machine(train)
    for split, each in image_set.items():
        check_dataset(checkpoint, split, each)
    return Newest(checkpoint, machine.place(model_from_checkpoint(checkpoint)), machine)


def colours(model: VAE) -> str:
    """Of its pixels, in words."""
    return "grey" if model.image_shape[0] == 1 else "colour"
