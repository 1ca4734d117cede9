"""The rate of held-out images in three parts (Hoffman & Johnson 2016; Chen et al. 2018, arXiv:1802.04942, eq. 2)."""

from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.pixels import as_pixels, check_some
from ..errors import InputError
from ..models import VAE
from ..models.gaussian import DiagonalGaussian
from ..models.priors import StandardNormal
from ..objectives.total_correlation import RateParts, aggregate_log_prob, split_rate

BATCH_SIZE = 1000  # images held as floats at once


class Part(NamedTuple):
    """One part of the rate."""

    mean: float  # nats per image
    standard_error: float  # of that mean over images; 0 for one image


class Decomposition(NamedTuple):
    """The parts of the rate, which add up to the KL as one sample of each image estimates it."""

    mutual_information: Part  # of an image's index and its code: at most log N
    total_correlation: Part  # KL(q(z) || prod_j q(z_j)): how much the dimensions depend on each other
    dimension_wise_kl: Part  # sum_j KL(q(z_j) || p(z_j))


@torch.inference_mode()
def decompose_rate(model: VAE, images: Tensor, labels: Tensor | None = None, *, seed: int) -> Decomposition:
    """Mutual information, total correlation and dimension-wise KL, q(z) being the mixture of all these posteriors.

    The time grows with the square of the number of images, the memory does not.

    Args:
        model: on the device of the images; latents of one group, prior N(0, I).
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.
        seed: of the codes, one for each image.

    Raises:
        InputError: no images, a wrong shape or range, another prior, or several groups.
    """
    check_some(images)
    if len(model.groups) > 1:
        raise InputError(f"decompose_rate: expected a model with one group of latents, got {len(model.groups)}.")
    if not isinstance(model.prior, StandardNormal):
        raise InputError(
            f"decompose_rate: expected a model with the prior N(0, I), got {type(model.prior).__name__}. "
            "The KL of each dimension needs a prior of independent dimensions."
        )
    parts = [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]
    posteriors = [model.encode(as_pixels(images[at]), labels[at] if labels is not None else None) for at in parts]
    posterior = DiagonalGaussian(*(torch.cat(numbers) for numbers in zip(*posteriors, strict=True)))
    noise = torch.randn(1, *posterior.mean.shape, generator=torch.Generator().manual_seed(seed))
    z = posterior.sample(noise.to(images.device))[0]  # (N, Z)
    return Decomposition(*map(_averaged, parts_of_rate(model.prior, posterior, z)))


def parts_of_rate(prior: StandardNormal, posterior: DiagonalGaussian, z: Tensor) -> RateParts:
    """The parts for one code (N, Z) of each of N posteriors, (N,) nats each."""
    equal = torch.tensor(-log(len(z)), device=z.device).expand(len(z), len(z))
    return split_rate(posterior.log_prob(z), prior.log_prob(z), *aggregate_log_prob(z, posterior, equal))


def _averaged(values: Tensor) -> Part:
    values = values.cpu().double()
    return Part(values.mean().item(), values.std().item() / sqrt(len(values)) if len(values) > 1 else 0.0)
