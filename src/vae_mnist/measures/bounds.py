"""Bounds on the likelihood of held-out images. Nats per image, averaged over images, not batches."""

from itertools import product
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.pixels import as_pixels, check_some
from ..models import VAE
from ..objectives import Objective, importance_weighted_nll

# One noise for every epoch, run and machine: test losses compare.
TEST_NOISE_SEED = 0
BATCH_SIZE = 1000  # decoder outputs at once
DRAWN = 2000  # posterior samples drawn at once, or a chunk if it is larger: smaller chunks have the same samples


class Losses(NamedTuple):
    """Mean nats per image."""

    loss: float  # of the objective
    distortion: float  # -log p(x|z)
    rate: float  # KL(q(z|x) || p(z))
    extra: dict[str, float]  # what else the objective gives

    @property
    def neg_elbo(self) -> float:
        """The negative evidence lower bound, whatever the objective is."""
        return self.distortion + self.rate


class Mean(NamedTuple):
    """A mean over images."""

    value: float
    standard_error: float  # 0 for one image

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """The mean of values (N,)."""
        return cls(values.mean().item(), values.std().item() / sqrt(len(values)) if len(values) > 1 else 0.0)


class ImportanceWeighted(NamedTuple):
    """An importance-weighted bound on the negative log-likelihood."""

    nll: float  # mean nats per image
    standard_error: float  # of that mean over images; 0 for one image


def average_terms(
    model: VAE,
    objective: Objective,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    step: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Losses:
    """The means of `terms_of_images`, which has the arguments and errors."""
    terms = terms_of_images(model, objective, images, labels, step=step, batch_size=batch_size)
    means = {name: values.mean().item() for name, values in terms.items()}
    return Losses(means.pop("loss"), means.pop("distortion"), means.pop("rate"), means)


@torch.inference_mode()
def terms_of_images(
    model: VAE,
    objective: Objective,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    step: int = 0,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Tensor]:
    """The terms of the objective for each image, with noise from a fixed seed: (N,) float64 each, on the CPU.

    Args:
        model: on the device of the images; its mode is not changed.
        objective: what training minimises.
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.
        step: updates made before, for objectives that change during training.
        batch_size: decoder outputs held at once.

    Raises:
        InputError: no images, a wrong shape or range.
    """
    check_some(images)
    generator = torch.Generator().manual_seed(TEST_NOISE_SEED)
    found: dict[str, Tensor] = {}
    size = max(1, batch_size // objective.samples)
    for start in range(0, len(images), size):
        pixels, classes = as_pixels(images[start : start + size]), _part(labels, start, size)
        noise = torch.randn(objective.samples, len(pixels), model.noise_dim, generator=generator).to(pixels.device)
        extra = None
        if objective.noise_dim:
            extra = torch.randn(len(pixels), objective.noise_dim, generator=generator).to(pixels.device)
        terms = objective(model(pixels, noise, classes), torch.tensor(step), extra)
        values = {"loss": terms.loss, "distortion": terms.distortion, "rate": terms.rate, **terms.extra}
        for name, value in values.items():
            if name not in found:
                found[name] = torch.empty(len(images), dtype=torch.float64)
            found[name][start : start + size] = value
    return found


def importance_weighted(
    model: VAE, images: Tensor, samples: int, labels: Tensor | None = None, *, seed: int, chunk_size: int
) -> ImportanceWeighted:
    """The mean of `nll_of_images`, which has the arguments and errors."""
    return ImportanceWeighted(*Mean.of(nll_of_images(model, images, samples, labels, seed=seed, chunk_size=chunk_size)))


@torch.inference_mode()
def nll_of_images(
    model: VAE, images: Tensor, samples: int, labels: Tensor | None = None, *, seed: int, chunk_size: int
) -> Tensor:
    """The importance-weighted bound of each image, (N,) float64 on the CPU (Burda et al. 2016).

    Args:
        model: on the device of the images.
        images: (N, C, H, W), 0 or 1 (0 or 255 as uint8) for a bound on a likelihood.
        samples: k, posterior samples an image.
        labels: (N,) int64, for a conditional model; others ignore them.
        seed: of the posterior samples; which of them an image gets depends on a chunk size above DRAWN as well.
        chunk_size: decoder outputs held at once; k may exceed it.

    Raises:
        InputError: no images, a wrong shape or range.
    """
    check_some(images)
    generator = torch.Generator().manual_seed(seed)
    drawn = max(DRAWN, chunk_size)
    group = max(1, drawn // samples)
    # Filled in place: a small result kept from each group takes a hole that the next group's tensors then do not fit
    # into, and a long evaluation grows by hundreds of megabytes.
    nll = torch.empty(len(images), dtype=torch.float64)
    for start in range(0, len(images), group):
        pixels, classes = as_pixels(images[start : start + group]), _part(labels, start, group)
        log_weights = torch.empty(samples, len(pixels), device=pixels.device)
        for part in log_weights.split(drawn):
            noise = torch.randn(len(part), len(pixels), model.noise_dim, generator=generator).to(pixels.device)
            width = max(1, chunk_size // len(part))  # images at once, with all samples of the part if they fit
            for column, row in product(range(0, len(pixels), width), range(0, len(part), chunk_size)):
                some, rows = slice(column, column + width), slice(row, row + chunk_size)
                part[rows, some] = model(pixels[some], noise[rows, some], _part(classes, column, width)).log_weights
        nll[start : start + group] = importance_weighted_nll(log_weights)
    return nll


def _part(labels: Tensor | None, start: int, size: int) -> Tensor | None:
    return labels[start : start + size] if labels is not None else None


def evenly_spread(images: Tensor, count: int) -> Tensor:
    """So many of the images, at equal distances; all if there are fewer. MNIST's first test images are the easiest."""
    if count >= len(images):
        return images
    return images[torch.arange(count, device=images.device) * len(images) // count]
