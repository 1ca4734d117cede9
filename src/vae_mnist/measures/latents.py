"""How much the latent dimensions carry."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..data.pixels import as_pixels, check_some
from ..models import VAE
from ..models.priors import StandardNormal
from .distances import Moments, moments_of

ACTIVE_UNIT_THRESHOLD = 0.01  # Burda et al. 2016, section 5.1
PRIOR_CODES, PRIOR_SEED = 10_000, 0  # drawn from a prior whose moments have no closed form


class PosteriorStatistics(NamedTuple):
    """Of the posteriors of N images."""

    means: Tensor  # (N, Z) float32
    kl: Tensor  # (Z,) float64 nats, of each latent dimension, averaged over the images
    variances: Tensor  # (Z,) float64, averaged over the images


@torch.inference_mode()
def posterior_statistics(
    model: VAE, images: Tensor, labels: Tensor | None = None, *, batch_size: int = 1000
) -> PosteriorStatistics:
    """Posterior means of all images, and average KL and variance of each latent dimension.

    The KL is that to N(0, I) also where the prior of the codes is another, for it alone is a sum
    over dimensions; of the lower groups of a ladder to their prior given the posterior means above.

    Args:
        model: on the device of the images.
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.
        batch_size: images held as floats at once.
    """
    check_some(images)
    means = torch.empty(len(images), model.latent_dim)
    kl, variances = torch.zeros(2, model.latent_dim, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        pairs = model.posteriors(as_pixels(images[part]), labels[part] if labels is not None else None)
        (top, _), *below = pairs
        means[part] = torch.cat([q.mean for q, _ in pairs], dim=1)
        # The groups below the top are Gaussians, whose KL has a closed form.
        parts = [top.kl_to_standard(), *(cast("Tensor", p.kl(q)) for q, p in below)]
        kl += torch.cat([part.sum(0) for part in parts]).cpu().double()
        variances += torch.cat([q.logvar.exp().sum(0) for q, _ in pairs]).cpu().double()
    return PosteriorStatistics(means, kl / len(images), variances / len(images))


def aggregate_moments(means: Tensor, variances: Tensor) -> Moments:
    """The moments of the aggregate posterior, the mixture of the posteriors of all images.

    Args:
        means: (N, Z), of the posteriors.
        variances: (Z,), averaged over the images.
    """
    mean, covariance = moments_of(means)
    return Moments(mean, covariance + variances.double().diag())


@torch.inference_mode()
def prior_moments(model: VAE) -> Moments:
    """Those of p(z), of the top group of latents: exact of N(0, I), of 10,000 codes of other priors."""
    if isinstance(model.prior, StandardNormal):
        size = model.groups[0]
        return Moments(torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64))
    generator = torch.Generator().manual_seed(PRIOR_SEED)
    return moments_of(model.prior_now().draw(PRIOR_CODES, generator).cpu())


def active_units(means: Tensor) -> int:
    """How many latent dimensions carry information: Var_x(E_q[z_i]) > 0.01 (Burda et al. 2016).

    Args:
        means: (N, Z), posterior means over a whole set.
    """
    return int((means.var(dim=0, correction=0) > ACTIVE_UNIT_THRESHOLD).sum())
