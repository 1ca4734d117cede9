"""A prior with a density that is learned: RealNVP (Dinh et al. 2017, arXiv:1605.08803) over the codes."""

from contextlib import AbstractContextManager, nullcontext
from math import log, pi
from typing import cast

import torch
from torch import Tensor, nn

from ..config.model import FlowConfig
from ..errors import ConfigError
from .gaussian import DiagonalGaussian
from .priors import Encode, Prior, PriorDistribution


class FlowPrior(Prior):
    """Couplings that turn codes into standard normal numbers; it starts as N(0, I).

    log p(z) = log N(u; 0, I) + log |det du/dz|, computed in float32 whatever autocast says.

    Args:
        latent_dim: Z, at least 2.
        config: number of couplings and their width.

    Raises:
        ConfigError: one latent dimension, which cannot be split.
    """

    def __init__(self, latent_dim: int, config: FlowConfig) -> None:
        super().__init__(latent_dim)
        if latent_dim < 2:  # noqa: PLR2004
            raise ConfigError(f"FlowPrior: expected latent_dim of at least 2, got {latent_dim}.")
        self.couplings = nn.ModuleList(_Coupling(latent_dim, config.hidden_dim) for _ in range(config.couplings))

    def given(self, encode: Encode) -> PriorDistribution:  # noqa: ARG002 for priors that are made of posteriors
        """Itself: there is nothing to compute before."""
        return self

    def kl(self, posterior: DiagonalGaussian) -> None:
        """None: there is no closed form."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), (...) nats in float32, of z (..., Z)."""
        with _float32(z.device):
            u, log_det = z.float(), z.new_zeros(z.shape[:-1], dtype=torch.float32)
            for coupling in self.couplings:
                u, volume = coupling(_shuffled(u))
                log_det = log_det + volume
            return log_det - 0.5 * (u.square() + log(2 * pi)).sum(-1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes drawn from p(z), (count, Z), on the device of the weights; see `PriorDistribution.draw`."""
        z = temperature * torch.randn(count, self.latent_dim, generator=generator)
        z = z.to(next(self.parameters()).device)
        with _float32(z.device):
            for coupling in reversed(self.couplings):
                z = _unshuffled(cast("_Coupling", coupling).inverse(z))
        return z


class _Coupling(nn.Module):
    """The second half of the dimensions, scaled and shifted by what the first half says."""

    def __init__(self, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.sizes = (latent_dim // 2, latent_dim - latent_dim // 2)
        last = nn.Linear(hidden_dim, 2 * self.sizes[1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(self.sizes[0], hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), last
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The changed codes (..., Z), and log |det| (...) of the change."""
        first, second = z.split(self.sizes, dim=-1)
        log_scale, shift = self._parameters_of(first)
        return torch.cat([first, second * log_scale.exp() + shift], dim=-1), log_scale.sum(-1)

    def inverse(self, u: Tensor) -> Tensor:
        """The codes (..., Z) that `forward` turns into u."""
        first, second = u.split(self.sizes, dim=-1)
        log_scale, shift = self._parameters_of(first)
        return torch.cat([first, (second - shift) * (-log_scale).exp()], dim=-1)

    def _parameters_of(self, first: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(first).chunk(2, dim=-1)
        return torch.tanh(log_scale), shift  # bounded: one coupling scales by at most e


def _float32(device: torch.device) -> AbstractContextManager[None]:
    """No autocast in the block; the meta device knows none."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _shuffled(z: Tensor) -> Tensor:
    """Dimensions 0, 2, 4, …, 1, 3, 5, …: between couplings, which mixes all dimensions."""
    return torch.cat([z[..., 0::2], z[..., 1::2]], dim=-1)


def _unshuffled(z: Tensor) -> Tensor:
    first = (z.shape[-1] + 1) // 2
    back = torch.empty_like(z)
    back[..., 0::2], back[..., 1::2] = z[..., :first], z[..., first:]
    return back
