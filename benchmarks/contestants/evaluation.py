"""Our importance-weighted bound: how many posterior samples it measures a second."""

from pathlib import Path
from time import perf_counter

from vae_mnist.config.model import ModelConfig
from vae_mnist.config.parameters import EvaluateConfig
from vae_mnist.measures.bounds import importance_weighted
from vae_mnist.models import build_model
from vae_mnist.training.machine import resolve_device

from ..digits import read
from .ours import parameters


class Evaluation:
    """An untrained model costs what a trained one does."""

    def __init__(self, folder: Path, device: str) -> None:
        where = resolve_device(device)
        self.images = read(folder)[1]["images"].to(where)
        self.model = build_model(ModelConfig(**parameters("model")), tuple(self.images.shape[1:])).to(where).eval()
        self.config = EvaluateConfig(**parameters("evaluate"))

    def answer(self, order: str) -> float:
        """Images x k a second, for k = order."""
        samples = int(order)
        images = self.images[: max(1, min(len(self.images), 1_000_000 // samples))]
        started = perf_counter()
        importance_weighted(self.model, images, samples, seed=0, chunk_size=self.config.chunk_size)
        return len(images) * samples / (perf_counter() - started)


def build(folder: Path, device: str) -> Evaluation:
    """Ready."""
    return Evaluation(folder, device)
