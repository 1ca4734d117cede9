"""Priors that are mixtures of Gaussians: learned ones, or the posteriors at learned pseudo-inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config.model import MixtureConfig, VampConfig
from ..data.pixels import as_pixels
from .gaussian import LOGVAR_MAX, LOGVAR_MIN, DiagonalGaussian
from .priors import Encode, GaussianMixture, Prior


class MixturePrior(Prior):
    """p(z) = sum_k w_k N(z; m_k, diag(v_k)), all of them learned.

    Args:
        latent_dim: Z.
        config: number of components.
    """

    def __init__(self, latent_dim: int, config: MixtureConfig) -> None:
        super().__init__(latent_dim)
        self.logits = nn.Parameter(torch.zeros(config.components))
        self.means = nn.Parameter(torch.randn(config.components, latent_dim))
        self.logvars = nn.Parameter(torch.zeros(config.components, latent_dim))

    def given(self, encode: Encode) -> GaussianMixture:  # noqa: ARG002 the components are weights
        """The mixture as it is now."""
        components = DiagonalGaussian(self.means, self.logvars.clamp(LOGVAR_MIN, LOGVAR_MAX))
        return GaussianMixture(torch.log_softmax(self.logits, dim=0), components)


class VampPrior(Prior):
    """p(z) = 1/K sum_k q(z|u_k), the posteriors at K learned pseudo-inputs (Tomczak & Welling 2018, eq. 9).

    Args:
        latent_dim: Z.
        image_shape: (C, H, W).
        config: number of pseudo-inputs.
    """

    def __init__(self, latent_dim: int, image_shape: Sequence[int], config: VampConfig) -> None:
        super().__init__(latent_dim)
        self.pseudo_inputs = nn.Parameter(torch.rand(config.pseudo_inputs, *image_shape))

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Start at the first training images, or at as many as there are."""
        first = as_pixels(images[: len(self.pseudo_inputs)]).to(self.pseudo_inputs.device)
        self.pseudo_inputs[: len(first)] = first

    def given(self, encode: Encode) -> GaussianMixture:
        """The mixture of posteriors; pseudo-inputs are kept in [0, 1]."""
        components = encode(self.pseudo_inputs.clamp(0, 1))
        count = len(self.pseudo_inputs)
        return GaussianMixture(components.mean.new_full((count,), 1 / count).log(), components)
