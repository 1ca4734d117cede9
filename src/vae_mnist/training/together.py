"""The processes that torchrun has started: the first one leads, the others follow."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from safetensors.torch import load, save
from torch.distributed.elastic.multiprocessing.errors import record

from ..config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from ..data.images import Digits
from ..storage.checkpoints import Checkpoint, from_bytes, to_bytes
from .loop import train
from .machine import resolve_machine
from .state import restore, start
from .step import keep_code_at_home
from .team import ALONE, Team, join_team, launched

_NOTHING = b"null"
_led = False  # whether this process has led the others, who then leave


class Job(NamedTuple):
    """What a process must know to train along."""

    model: ModelConfig
    objective: ObjectiveConfig
    config: TrainConfig
    digits: Digits  # to train on
    checkpoint: Checkpoint | None  # to go on from


@contextmanager
def leading(job: Job | None) -> Iterator[Team]:
    """Be the first of torchrun's processes, if it has started any, and tell the others what to train.

    Args:
        job: None if there is nothing to train.
    """
    global _led  # noqa: PLW0603 the processes are one group as long as this one lives
    if not launched() or _led:
        yield ALONE
        return
    _led = True
    with join_team() as team:
        if job is None:
            team.from_first(_NOTHING)
        else:
            groups = {"model": job.model, "objective": job.objective, "config": job.config}
            described = {name: group.model_dump(mode="json") for name, group in groups.items()}
            team.from_first(json.dumps(described).encode())
            team.from_first(to_bytes(job.checkpoint) if job.checkpoint is not None else b"")
            team.from_first(save({"images": job.digits["images"], "labels": job.digits["labels"]}))
        yield team


def dismiss() -> None:
    """Tell the other processes that there is nothing left to train, unless they have been led already."""
    with leading(None):
        pass


@record
def follow() -> None:
    """Be another of torchrun's processes: train along until the first is done.

    Raises:
        ConfigError: this machine does not offer the device or precision.
    """
    with join_team() as team:
        described = json.loads(team.from_first(b""))
        if described is None:
            return
        model, objective = ModelConfig(**described["model"]), ObjectiveConfig(**described["objective"])
        config, checkpoint = TrainConfig(**described["config"]), team.from_first(b"")
        tensors = load(team.from_first(b""))
        machine = resolve_machine(config)
        if config.compile:
            keep_code_at_home()
        state = start(model, objective, config, tensors["images"], machine)
        if checkpoint:
            restore(state, from_bytes(checkpoint))
        digits = Digits(images=tensors["images"].to(machine.device), labels=tensors["labels"].to(machine.device))
        for _ in train(state, {"train": digits}, config, machine, team=team):
            pass
