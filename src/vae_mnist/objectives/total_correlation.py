"""The rate in three parts, the total correlation weighted: beta-TCVAE (Chen et al. 2018, arXiv:1802.04942)."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..models import Pass
from ..models.gaussian import DiagonalGaussian
from .terms import Objective, Terms

_AT_ONCE = 2**20  # densities of single dimensions in memory: 4 MB, which a processor's cache holds


class TotalCorrelation(Objective):
    """distortion + mutual information + beta x total correlation + dimension-wise KL (eq. 4).

    q(z) is estimated from the batch, with stratified weights. The parts add up to the rate as one sample estimates it:
    with beta = 1 the loss is the negative evidence lower bound. How they divide it depends on the size of the batch: as
    the logarithm of an estimate is too low on average, larger batches give less mutual information.

    Args:
        beta: weight of the total correlation.
        count: N, images in the training set; a batch of more than that counts as the whole set.
    """

    def __init__(self, beta: float, count: int) -> None:
        super().__init__()
        self.beta = beta
        self.count = count

    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:  # noqa: ARG002 needs neither
        """The loss and its parts, of a model with latents of one group; see `Objective.forward`."""
        (posterior,), (z,) = result.posteriors, result.z
        weights = stratified_weights(len(posterior.mean), self.count, z.device)
        log_q_z, log_q_each = aggregate_log_prob(z[0], posterior, weights.log())
        log_q, log_p = result.log_q[0, :, 0], result.log_p[0, :, 0]
        parts = split_rate(log_q, log_p, log_q_z, log_q_each)
        kept = result.distortion + parts.mutual_information + parts.dimension_wise_kl
        return Terms(kept + self.beta * parts.total_correlation, result.distortion, result.rate, dict(parts._asdict()))

    def beta_at(self, step: Tensor) -> float:  # noqa: ARG002 it does not change
        """Of the total correlation."""
        return self.beta


class RateParts(NamedTuple):
    """The parts of the rate, (B,) nats each, estimated from one sample of each image."""

    mutual_information: Tensor  # log q(z|x) - log q(z), of the image's index and its code
    total_correlation: Tensor  # log q(z) - sum_j log q(z_j)
    dimension_wise_kl: Tensor  # sum_j log q(z_j) - log p(z)


def split_rate(log_q: Tensor, log_p: Tensor, log_q_z: Tensor, log_q_each: Tensor) -> RateParts:
    """The parts of log q(z|x) - log p(z) (Chen et al. 2018, eq. 2), which add up to it.

    Args:
        log_q: (B,), log q(z|x).
        log_p: (B,), log p(z).
        log_q_z: (B,), log q(z).
        log_q_each: (B, Z), log q(z_j).
    """
    independent = log_q_each.sum(1)
    return RateParts(log_q - log_q_z, log_q_z - independent, independent - log_p)


def aggregate_log_prob(z: Tensor, posterior: DiagonalGaussian, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log density of codes, and of each dimension of them, under a mixture of posteriors: (N,) and (N, Z) nats.

    Args:
        z: (N, Z).
        posterior: M components, (M, Z).
        log_weights: (N, M), of the components for each code.
    """
    count, latent_dim = posterior.mean.shape
    each = DiagonalGaussian(posterior.mean[..., None], posterior.logvar[..., None])  # every dimension a Gaussian
    rows = max(1, _AT_ONCE // (count * latent_dim))
    joint, single = [], []
    for codes, weights in zip(z.split(rows), log_weights.split(rows), strict=True):
        log_prob = each.log_prob(codes[:, None, :, None])  # (rows, M, Z)
        joint.append(torch.logsumexp(weights + log_prob.sum(2), dim=1))
        single.append(torch.logsumexp(weights[..., None] + log_prob, dim=1))
    return torch.cat(joint), torch.cat(single)


def stratified_weights(size: int, count: int, device: torch.device | None = None) -> Tensor:
    """Weights of a batch's posteriors that make q(z) of each of its codes without bias, (B, B), rows adding up to 1.

    A code's own posterior weighs 1/N; of the M = B - 1 others one weighs (N - M) / (N M) and each other 1/M (Chen et
    al. 2018, appendix C.1). A batch of one image knows no other posterior: its own stands for all.

    Args:
        size: B.
        count: N, images that the batch was drawn from without replacement; at least B is taken.
        device: of the weights.
    """
    others, count = size - 1, max(size, count)
    if not others:
        return torch.ones(1, 1, device=device)
    weights = torch.full((size, size), 1 / others, device=device)
    own = torch.arange(size, device=device)
    weights[own, own] = 1 / count
    weights[own, (own + 1) % size] = (count - others) / (count * others)
    return weights
