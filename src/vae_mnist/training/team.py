"""Data-parallel training: processes that torchrun has started share each batch, on one machine or on many."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# How long a process waits for one that is silent: the first may be at a slow disk. One that dies is noticed at once, by
# its broken connection.
SILENCE = timedelta(minutes=10)
# How long processes that are ready wait for the others to be so: the first may have images to download.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Team:
    """The processes that train one model together; this one is number `rank` of `size`."""

    rank: int = 0
    size: int = 1
    group: distributed.ProcessGroup | None = None

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a batch, as equal as can be; perhaps nothing."""
        return batch.tensor_split(self.size, dim)[self.rank] if self.size > 1 else batch

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes as they are computed."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, process_group=self.group, broadcast_buffers=False)

    def add_up(self, values: Tensor) -> None:
        """Replace the values by their sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values, group=self.group)

    def sums_of(self, gradients: list[Tensor]) -> list[Tensor]:
        """Their sums over all processes."""
        if self.size == 1:
            return gradients
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.add_up(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


ALONE = Team()


def launched() -> bool:
    """Whether torchrun has started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def join_team() -> Iterator[Team]:
    """Meet the processes that a launcher has started, as its environment variables say; wait until all are here.

    Gradients travel by nccl between cards and by gloo between CPUs.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        group = cast("distributed.ProcessGroup", distributed.new_group(timeout=SILENCE))  # this process is in it
        yield Team(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group()
