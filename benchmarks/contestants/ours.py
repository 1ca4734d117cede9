"""`vae_mnist` as a library, with the values of conf/base."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
import yaml

from vae_mnist.config.model import ModelConfig
from vae_mnist.config.objective import ObjectiveConfig
from vae_mnist.config.parameters import TrainConfig
from vae_mnist.data.images import ImageSet
from vae_mnist.training.loop import train
from vae_mnist.training.machine import resolve_machine
from vae_mnist.training.state import start

from ..digits import read
from . import Contestant

CONF = Path(__file__).parents[2] / "conf" / "base"


def parameters(group: str) -> dict[str, object]:
    """The values of a group as they stand in conf/base."""
    return yaml.safe_load((CONF / f"parameters_{group}.yml").read_text(encoding="utf-8"))[group]


class Ours(Contestant):
    """`vae_mnist.training.loop.train`; an epoch's seconds are those of its history."""

    model: ClassVar[Mapping[str, object]] = {}  # what differs from conf/base

    def __init__(self, folder: Path, device: str, *variants: str) -> None:
        changes: dict[str, object] = {"epochs": 10_000, "device": device, "compile": "compiled" in variants}
        if "float32" in variants:
            changes["precision"] = "float32"
        if threads := os.environ.get("TRAIN_THREADS"):
            changes["threads"] = int(threads)
        different = self.model | ({"network": "conv"} if "conv" in variants else {})
        config = TrainConfig(**parameters("train") | changes)
        machine = resolve_machine(config)
        training, test = (self.digits(digits, machine.device) for digits in read(folder))
        model, objective = ModelConfig(**parameters("model") | different), ObjectiveConfig(**parameters("objective"))
        self.state = start(model, objective, config, training["images"], 10, machine)
        self.training = training
        self.epochs = train(self.state, {"train": training, "test": test}, config, machine)

    def digits(self, digits: ImageSet, device: torch.device) -> ImageSet:
        """What to train on, on the device."""
        return ImageSet(images=digits["images"].to(device), labels=digits["labels"].to(device))

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        row = next(self.epochs).history[-1]
        return row["seconds"], row["train_loss"]

    def test_loss(self) -> float:
        """Mean over the test digits."""
        return self.state.history[-1]["test_loss"]


def build(folder: Path, device: str, *variants: str) -> Ours:
    """Ready for its first epoch, which compiles if it is to: "float32" in place of auto, "compiled", "conv"."""
    return Ours(folder, device, *variants)
