"""The result of one pass of a VAE."""

from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import DiagonalGaussian
from .priors import CodeDistribution


class Pass(NamedTuple):
    """The result of one pass: all that an objective or a measure may use. S samples, G groups of latents."""

    outputs: Tensor  # (S, B, C', H, W), of the decoder
    nll: Tensor  # (S, B) nats, -log p(x|z)
    posteriors: tuple[DiagonalGaussian, ...]  # G, the top one (B, Z), those below (S, B, Z)
    priors: tuple[CodeDistribution, ...]  # G, those below the top given the latents above
    z: tuple[Tensor, ...]  # G, (S, B, Z) each

    @property
    def log_q(self) -> Tensor:
        """Log q(z|x) of each group, (S, B, G) nats."""
        return torch.stack([q.log_prob(z) for q, z in zip(self.posteriors, self.z, strict=True)], dim=-1)

    @property
    def log_p(self) -> Tensor:
        """Log p(z) of each group, (S, B, G) nats."""
        return torch.stack([p.log_prob(z) for p, z in zip(self.priors, self.z, strict=True)], dim=-1)

    @property
    def kls(self) -> tuple[Tensor | None, ...]:
        """KL(q || p) of each dimension of each group in closed form, G of (B, Z) nats, averaged over the samples.

        None for a group without closed form.
        """
        parts = [p.kl(q) for p, q in zip(self.priors, self.posteriors, strict=True)]
        return tuple(part if part is None or part.ndim == 2 else part.mean(0) for part in parts)  # noqa: PLR2004

    @property
    def kl(self) -> Tensor | None:
        """KL(q(z|x) || p(z)) of each dimension in closed form, (B, Z) nats; None if a group has none."""
        known = [part for part in self.kls if part is not None]
        if len(known) < len(self.z):
            return None
        return known[0] if len(known) == 1 else torch.cat(known, dim=1)

    @property
    def rates(self) -> tuple[Tensor, ...]:
        """KL(q || p) of each group, G of (B,) nats: in closed form, else averaged over the samples."""
        groups = zip(self.kls, self.posteriors, self.priors, self.z, strict=True)
        return tuple(kl.sum(1) if kl is not None else (q.log_prob(z) - p.log_prob(z)).mean(0) for kl, q, p, z in groups)

    @property
    def distortion(self) -> Tensor:
        """-log p(x|z), averaged over the samples, (B,) nats."""
        return self.nll.squeeze(0) if len(self.nll) == 1 else self.nll.mean(0)  # the first is free

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x) || p(z)) over all groups, (B,) nats."""
        return total(self.rates)

    @property
    def log_weights(self) -> Tensor:
        """Log p(x, z) - log q(z|x), (S, B) nats (Burda et al. 2016, eq. 6)."""
        return (self.log_p - self.log_q).sum(-1) - self.nll


def total(rates: tuple[Tensor, ...]) -> Tensor:
    """The sum over groups of latents, (B,) nats."""
    first, *others = rates
    return sum(others, start=first)
