"""Priors p(z) over codes."""

from abc import ABC, abstractmethod
from math import log, pi

import torch
from torch import Tensor, nn

from .gaussian import DiagonalGaussian


class Prior(nn.Module, ABC):
    """What a prior offers; its weights, if it has any, are trained with the model's."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), (...) nats in float32, of z (..., Z)."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes drawn from p(z), (count, Z); random numbers are drawn on the CPU, the same for every device."""

    def kl(self, posterior: DiagonalGaussian) -> Tensor | None:  # noqa: ARG002 for priors with a closed form
        """KL(q || p) of each dimension in closed form, (B, Z) nats; None: to be estimated from samples."""
        return None


class StandardNormal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), (...) nats."""
        return -0.5 * (z.square() + log(2 * pi)).sum(-1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal codes, (count, Z), on the CPU."""
        return torch.randn(count, self.latent_dim, generator=generator)

    def kl(self, posterior: DiagonalGaussian) -> Tensor:
        """KL(q || N(0, I)) of each dimension, (B, Z) nats."""
        return posterior.kl_to_standard()
