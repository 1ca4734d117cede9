"""The diagonal Gaussian: the one place of reparameterisation, density and KL."""

from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor

# exp(10) = 22,026 stays below 65,504, the largest float16: no precision can overflow at the bound.
LOGVAR_MIN, LOGVAR_MAX = -20.0, 10.0


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(logvar))), over the last dimension."""

    mean: Tensor  # (..., Z)
    logvar: Tensor  # (..., Z), log of the variance

    @classmethod
    def of(cls, parameters: Tensor) -> "DiagonalGaussian":
        """Mean and bounded log-variance in float32, of a network's output (N, 2Z) that has them side by side."""
        mean, logvar = parameters.float().chunk(2, dim=1)
        return cls(mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX))

    def sample(self, noise: Tensor) -> Tensor:
        """Samples that gradients flow through, (S, ..., Z); noise is (S, ..., Z) standard normal.

        Kingma & Welling (2014), section 2.4.
        """
        return torch.addcmul(self.mean, torch.exp(0.5 * self.logvar), noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z (S, ..., Z), (S, ...) nats."""
        squares = (z - self.mean).square() * torch.exp(-self.logvar)
        # Two sums: in a mixture only the squares are as large as samples x components.
        return -0.5 * (squares.sum(-1) + (self.logvar + log(2 * pi)).sum(-1))

    def kl(self, posterior: "DiagonalGaussian") -> Tensor:
        """KL(posterior || this) of each dimension, (..., Z) nats."""
        squares = (posterior.mean - self.mean).square() + posterior.logvar.exp()
        return 0.5 * (self.logvar - posterior.logvar + squares * torch.exp(-self.logvar) - 1)

    def kl_to_standard(self) -> Tensor:
        """KL to N(0, I) of each dimension, (..., Z) nats (Kingma & Welling 2014, appendix B)."""
        return -0.5 * (1 + self.logvar - self.mean.square() - self.logvar.exp())
