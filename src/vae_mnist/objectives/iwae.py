"""The importance-weighted bound (Burda et al. 2016, arXiv:1509.00519)."""

from math import log

import torch
from torch import Tensor

from ..models import Pass
from .terms import Objective, Terms


class Iwae(Objective):
    """-log 1/S sum_s p(x, z_s) / q(z_s|x).

    Args:
        samples: S, of each image; at 1 it is the negative evidence lower bound, estimated without the KL's closed form.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:  # noqa: ARG002 needs neither
        """The loss, and the parts of the plain bound averaged over the samples; see `Objective.forward`."""
        return Terms(importance_weighted_nll(result.log_weights), result.distortion, result.rate, {})


def importance_weighted_nll(log_weights: Tensor) -> Tensor:
    """-log 1/S sum_s w_s, (B,) nats: an upper bound on -log p(x) that S tightens (Burda et al. 2016, eq. 8).

    Args:
        log_weights: (S, B), log p(x, z_s) - log q(z_s|x) for z_s drawn from q(z|x).
    """
    return log(log_weights.shape[0]) - torch.logsumexp(log_weights, dim=0)
