"""Priors p(z) over codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import log, pi
from typing import Protocol

import torch
from torch import Tensor, nn

from .gaussian import DiagonalGaussian

Encode = Callable[[Tensor], DiagonalGaussian]  # images (N, C, H, W) -> q(z|x), (N, Z)


class CodeDistribution(Protocol):
    """A density over codes: a prior, or p(z_g | z_<g) of a group of latents given those above it."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z (..., Z), (...) nats in float32."""
        ...

    def kl(self, posterior: DiagonalGaussian) -> Tensor | None:
        """KL(posterior || this) of each dimension in closed form, (..., Z) nats; None: estimated from samples."""
        ...


class PriorDistribution(CodeDistribution, Protocol):
    """p(z) of the codes, or of the top group of latents."""

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes drawn from p(z), (count, Z); random numbers are drawn on the CPU, the same for every device.

        The temperature multiplies the standard deviation of each Gaussian that is drawn from; below 1, samples are more
        typical and less varied.
        """
        ...


class Prior(nn.Module, ABC):
    """A prior's weights, if it has any; they are trained with the model's.

    Args:
        latent_dim: Z.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def given(self, encode: Encode) -> PriorDistribution:
        """The density with the weights as they are now; encode is the model's own."""

    def start_from(self, images: Tensor) -> None:
        """Start from training images (N, C, H, W) uint8, where that has a meaning."""


class StandardNormal(Prior):
    """N(0, I)."""

    def given(self, encode: Encode) -> PriorDistribution:  # noqa: ARG002 for priors that are made of posteriors
        """Itself: there is nothing to compute before."""
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), (...) nats."""
        return -0.5 * (z.square() + log(2 * pi)).sum(-1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Normal codes, (count, Z), on the CPU; see `PriorDistribution.draw`."""
        return temperature * torch.randn(count, self.latent_dim, generator=generator)

    def kl(self, posterior: DiagonalGaussian) -> Tensor:
        """KL(q || N(0, I)) of each dimension, (B, Z) nats."""
        return posterior.kl_to_standard()


class GaussianMixture:
    """A mixture of K diagonal Gaussians.

    Args:
        log_weights: (K,), of which the exponentials add up to 1.
        components: (K, Z).
    """

    def __init__(self, log_weights: Tensor, components: DiagonalGaussian) -> None:
        self.log_weights = log_weights
        self.components = components

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z (..., Z), (...) nats."""
        return torch.logsumexp(self.log_weights + self.components.log_prob(z.float().unsqueeze(-2)), dim=-1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes, (count, Z): a component each, then a point of it; see `PriorDistribution.draw`."""
        weights = self.log_weights.detach().exp().cpu()
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).to(self.log_weights.device)
        mean, logvar = self.components.mean[chosen], self.components.logvar[chosen]
        noise = temperature * torch.randn(mean.shape, generator=generator)
        return DiagonalGaussian(mean, logvar).sample(noise.to(mean.device))

    def kl(self, posterior: DiagonalGaussian) -> None:
        """None: there is no closed form."""
