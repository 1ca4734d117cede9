"""Seeded minibatches over digits that stay on the device."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from .preprocessing import as_pixels


class Batch(NamedTuple):
    """One step's input."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    noise: Tensor  # (B, Z) standard normal, one row per image


class Batches:
    """Each iteration is one epoch: a new order, every image once, the last batch ragged.

    Order and noise come from one CPU generator and are drawn as the epoch starts, so they are the same on every
    device, and its state alone says where training goes on.

    Args:
        images: (N, C, H, W) uint8, on the device that trains.
        noise_dim: Z.
        batch_size: B.
        generator: on the CPU.
    """

    def __init__(self, images: Tensor, noise_dim: int, batch_size: int, generator: torch.Generator) -> None:
        self.images = images
        self.noise_dim = noise_dim
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        count, device = len(self.images), self.images.device
        order = torch.randperm(count, generator=self.generator).to(device)
        noise = torch.randn(count, self.noise_dim, generator=self.generator).to(device)
        for start in range(0, count, self.batch_size):
            chosen = slice(start, start + self.batch_size)
            yield Batch(as_pixels(self.images[order[chosen]]), noise[chosen])
