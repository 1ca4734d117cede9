"""The diagonal Gaussian: the one place of reparameterisation, density and KL."""

from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(logvar))), over the last dimension."""

    mean: Tensor  # (..., Z)
    logvar: Tensor  # (..., Z), log of the variance

    def sample(self, noise: Tensor) -> Tensor:
        """Samples that gradients flow through, (S, ..., Z); noise is (S, ..., Z) standard normal.

        Kingma & Welling (2014), section 2.4.
        """
        return torch.addcmul(self.mean, torch.exp(0.5 * self.logvar), noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z (S, ..., Z), (S, ...) nats."""
        squares = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (squares + self.logvar + log(2 * pi)).sum(-1)

    def kl_to_standard(self) -> Tensor:
        """KL to N(0, I) of each dimension, (..., Z) nats (Kingma & Welling 2014, appendix B)."""
        return -0.5 * (1 + self.logvar - self.mean.square() - self.logvar.exp())
