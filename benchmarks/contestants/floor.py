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

    def __init__(self, folder: Path, device: str, arithmetic: str) -> None:
        self.count = len(read(folder)[0]["images"])
        self.device = device
        dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
        self.whole, self.rest = (products(size, device, dtype) for size in (BATCH, self.count % BATCH))
        if arithmetic == "onednn":  # PyTorch leaves the products of float32 to MKL, unless they may be rounded
            torch.set_float32_matmul_precision("medium")

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


def products(batch: int, device: str, dtype: torch.dtype) -> list[Product]:
    """(left, right, out) of each product of a step."""
    steps, kind = [], {"device": device, "dtype": dtype}
    for place, (inputs, outputs) in enumerate(LAYERS if batch else ()):
        images, gradient = torch.randn(batch, inputs, **kind), torch.randn(batch, outputs, **kind)
        weight = torch.randn(outputs, inputs, **kind)  # as torch's Linear keeps it
        steps.append((images, weight.t(), torch.empty(batch, outputs, **kind)))
        steps.append((gradient.t(), images, torch.empty(outputs, inputs, **kind)))
        if place:
            steps.append((gradient, weight, torch.empty(batch, inputs, **kind)))
    return steps


def build(folder: Path, device: str, arithmetic: str = "float32") -> Floor:
    """Ready for its first epoch: float32 (by MKL on a CPU), "onednn" (the same by oneDNN) or "bfloat16"."""
    return Floor(folder, device, arithmetic)
