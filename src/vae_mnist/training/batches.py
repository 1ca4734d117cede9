"""Seeded minibatches over digits that stay on the device."""

from collections.abc import Iterable, Iterator
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..data.images import as_pixels
from .team import ALONE, Team


class Batch(NamedTuple):
    """One step's input."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    noise: Tensor  # (B, Z) standard normal, one row per image
    total: int  # images in the whole batch, of which a team's process has a part


class Batches:
    """Each iteration is one epoch: a new order, every image once, the last batch ragged.

    Order and noise come from one CPU generator and are drawn as the epoch starts, so they are the same on every
    device, and its state alone says where training goes on.

    Args:
        images: (N, C, H, W) uint8, on the device that trains.
        noise_dim: Z.
        batch_size: B.
        generator: on the CPU, in one state in all processes of a team.
        team: that share each batch; noise belongs to an image, not to the process that has it.
    """

    def __init__(
        self, images: Tensor, noise_dim: int, batch_size: int, generator: torch.Generator, team: Team = ALONE
    ) -> None:
        self.images = images
        self.noise_dim = noise_dim
        self.batch_size = batch_size
        self.generator = generator
        self.team = team

    def __len__(self) -> int:
        return ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        count, device = len(self.images), self.images.device
        order = torch.randperm(count, generator=self.generator).to(device)
        noise = torch.randn(count, self.noise_dim, generator=self.generator).to(device)
        for chosen, drawn in zip(order.split(self.batch_size), noise.split(self.batch_size), strict=True):
            yield Batch(as_pixels(self.images[self.team.share(chosen)]), self.team.share(drawn), len(chosen))


def progress_bar(batches: Iterable[Batch], epoch: int) -> Iterable[Batch]:
    """The same batches; on a terminal a bar shows them pass."""
    # disable=None: nothing in a log file
    return tqdm(batches, desc=f"epoch {epoch}", unit="batch", leave=False, disable=None)
