"""Our importance-weighted bound: how many posterior samples it measures a second."""

from pathlib import Path
from time import perf_counter

import torch

from vae_mnist.config.model import ModelConfig
from vae_mnist.config.parameters import EvaluateConfig, TrainConfig
from vae_mnist.measures.bounds import importance_weighted
from vae_mnist.models import build_model
from vae_mnist.training.machine import resolve_machine

from ..digits import read
from .ours import parameters

DECODED = 1_000_000  # in a turn


class Evaluation:
    """An untrained model costs what a trained one does."""

    def __init__(self, folder: Path, device: str, precision: str = "auto") -> None:
        changes = {"device": device, "precision": precision}
        self.machine = resolve_machine(TrainConfig(**parameters("train") | changes))
        self.images = read(folder)[1]["images"].to(self.machine.device)
        model = build_model(ModelConfig(**parameters("model")), tuple(self.images.shape[1:]))
        self.model = self.machine.place(model).eval()
        self.config = EvaluateConfig(**parameters("evaluate"))

    def answer(self, order: str) -> float:
        """Images x k a second, for k = order; "products": of the decoder alone, codes."""
        with self.machine.measuring():
            return self.products() if order == "products" else self.samples(int(order))

    def samples(self, count: int) -> float:
        """Posterior samples a second, so many of each image."""
        images = self.images[: max(1, min(len(self.images), DECODED // count))]
        started = perf_counter()
        importance_weighted(self.model, images, count, seed=0, chunk_size=self.config.chunk_size)
        return len(images) * count / (perf_counter() - started)

    @torch.inference_mode()
    def products(self) -> float:
        """The same of the decoder's matrix products alone."""
        layers = [layer for layer in self.model.network.decoder if isinstance(layer, torch.nn.Linear)]
        size = self.config.chunk_size
        read = [torch.rand(size, layer.in_features, device=self.machine.device) for layer in layers]
        read = [each.to(self.machine.precision.dtype or each.dtype) for each in read]
        started = perf_counter()
        for _ in range(DECODED // size):
            for layer, values in zip(layers, read, strict=True):
                layer(values)
        return DECODED // size * size / (perf_counter() - started)


def build(folder: Path, device: str, *variants: str) -> Evaluation:
    """Ready; variants: a precision in place of auto."""
    return Evaluation(folder, device, *variants)
