"""`vae_mnist` as a library, with the values of conf/base."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import yaml
from torch import Tensor

from vae_mnist.config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from vae_mnist.data.images import Digits
from vae_mnist.training.loop import start, train
from vae_mnist.training.machine import resolve_device, resolve_precision

from ..digits import read
from . import Contestant

CONF = Path(__file__).parents[2] / "conf" / "base"


def parameters(group: str) -> dict[str, object]:
    """The values of a group as they stand in conf/base."""
    return yaml.safe_load((CONF / f"parameters_{group}.yml").read_text(encoding="utf-8"))[group]


class Ours(Contestant):
    """`vae_mnist.training.loop.train`; an epoch's seconds are those of its history."""

    # what differs from conf/base
    model: ClassVar[Mapping[str, object]] = {}
    train: ClassVar[Mapping[str, object]] = {}

    def __init__(self, folder: Path, device: str) -> None:
        changes: dict[str, object] = {"epochs": 10_000, "device": device, "precision": "float32", **self.train}
        if threads := os.environ.get("TRAIN_THREADS"):
            changes["threads"] = int(threads)
        config = TrainConfig(**parameters("train") | changes)
        where = resolve_device(config.device)
        precision = resolve_precision(config.precision, where)
        training, test = (self.images(digits).to(where) for digits in read(folder))
        self.state = start(ModelConfig(**parameters("model") | self.model), config, training, where, precision)
        images, objective = {"train": training, "test": test}, ObjectiveConfig(**parameters("objective"))
        self.epochs = train(self.state, images, objective, config, precision)

    def images(self, digits: Digits) -> Tensor:
        """What to train on, (N, C, H, W) uint8."""
        return digits["images"]

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        row = next(self.epochs).history[-1]
        return row["seconds"], row["train_loss"]

    def test_loss(self) -> float:
        """Mean over the test digits."""
        return self.state.history[-1]["test_loss"]


def build(folder: Path, device: str) -> Ours:
    """Ready for its first epoch."""
    return Ours(folder, device)
