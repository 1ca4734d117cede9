"""The processes that torchrun has started: the first one leads, the others follow."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from pydantic import BaseModel
from safetensors.torch import load, save
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record

from ..config.model import ModelConfig
from ..config.objective import ObjectiveConfig
from ..config.parameters import TrainConfig
from ..data.images import ImageSet
from ..storage.checkpoints import Checkpoint, from_bytes, to_bytes
from .loop import train
from .machine import resolve_machine
from .state import restore, start
from .team import ALONE, Team, join_team, launched

_led = False  # whether this process has led the others, who then leave


class Job(BaseModel):
    """The parameters that a process must know to train along."""

    model: ModelConfig
    objective: ObjectiveConfig
    config: TrainConfig
    classes: int


@contextmanager
def leading(job: Job, image_set: ImageSet, checkpoint: Checkpoint | None) -> Iterator[Team]:
    """Be the first of torchrun's processes, if it has started any, and tell the others what to train.

    Args:
        job: what to train.
        image_set: to train on.
        checkpoint: to resume from.
    """
    global _led  # noqa: PLW0603 the processes are one group as long as this one lives
    if not launched():
        yield ALONE
        return
    _led = True
    with join_team() as team:
        _from_first(job.model_dump_json().encode())
        _from_first(to_bytes(checkpoint) if checkpoint is not None else b"")
        _from_first(save({"images": image_set["images"], "labels": image_set["labels"]}))
        yield team


def dismiss() -> None:
    """Tell the other processes that there is nothing to train, unless they have trained already."""
    if launched() and not _led:
        with join_team():
            _from_first(b"")


@record
def follow() -> None:
    """Be another of torchrun's processes: train along until the first is done.

    Raises:
        ConfigError: this machine does not offer the device or precision.
    """
    with join_team() as team:
        described = _from_first(b"")
        if not described:
            return
        job, checkpoint, tensors = Job.model_validate_json(described), _from_first(b""), load(_from_first(b""))
        machine = resolve_machine(job.config)
        state = start(job.model, job.objective, job.config, tensors["images"], job.classes, machine)
        if checkpoint:
            restore(state, from_bytes(checkpoint))
        image_set = ImageSet(images=tensors["images"].to(machine.device), labels=tensors["labels"].to(machine.device))
        for _ in train(state, {"train": image_set}, job.config, machine, team=team):
            pass


def _from_first(content: bytes) -> bytes:
    """The first process's content, which all processes get; that of the others is ignored. Nothing is pickled."""
    length = torch.tensor(len(content))
    distributed.broadcast(length, src=0)
    data = np.frombuffer(bytearray(content or int(length)), dtype=np.uint8)  # of zeros, where there is no content
    distributed.broadcast(torch.from_numpy(data), src=0)
    return data.tobytes()
