"""The floor: the matrix products of one epoch alone, into buffers that are there."""

from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ..digits import read
from . import BATCH, HIDDEN, LATENT, PIXELS, Contestant

LAYERS = ((PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS))
Product = tuple[Tensor, Tensor, Tensor]


class Floor(Contestant):
    """Forward, gradients of the inputs (but the pixels') and of the weights, for each layer."""

    def __init__(self, folder: Path, device: str) -> None:
        self.count = len(read(folder)[0]["images"])
        self.device = device
        self.whole, self.rest = (products(size, device) for size in (BATCH, self.count % BATCH))

    def epoch(self) -> tuple[float, float]:
        """The products of one epoch; there is no loss."""
        started = perf_counter()
        for _ in range(self.count // BATCH):
            for left, right, out in self.whole:
                torch.mm(left, right, out=out)
        for left, right, out in self.rest:
            torch.mm(left, right, out=out)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - started, float("nan")

    def test_loss(self) -> float:
        """There is none."""
        return float("nan")


def products(batch: int, device: str) -> list[Product]:
    """(left, right, out) of each product of a step."""
    steps = []
    for place, (inputs, outputs) in enumerate(LAYERS if batch else ()):
        images, gradient = torch.randn(batch, inputs, device=device), torch.randn(batch, outputs, device=device)
        weight = torch.randn(outputs, inputs, device=device)  # as torch's Linear keeps it
        steps.append((images, weight.t(), torch.empty(batch, outputs, device=device)))
        steps.append((gradient.t(), images, torch.empty(outputs, inputs, device=device)))
        if place:
            steps.append((gradient, weight, torch.empty(batch, inputs, device=device)))
    return steps


def build(folder: Path, device: str) -> Floor:
    """Ready for its first epoch."""
    return Floor(folder, device)
