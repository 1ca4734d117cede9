"""The negative evidence lower bound, and the changes to its rate."""

import torch
from torch import Tensor

from ..errors import ConfigError
from ..models.result import Pass, total
from .terms import Objective, Terms


class Elbo(Objective):
    """distortion + beta x rate, of one posterior sample (Kingma & Welling 2014, eq. 3; Higgins et al. 2017).

    With a capacity the loss is distortion + gamma x |rate - capacity| instead (Burgess et al. 2018, arXiv:1804.03599,
    eq. 8), of each image.

    Args:
        beta: weight of the rate; at 1 the loss is the negative evidence lower bound.
        kl_warmup_steps: updates over which that weight rises linearly from 0 to beta.
        free_bits: nats below which the KL of a latent dimension, or of each of several groups of latents, counts as
            that many (Kingma et al. 2016, arXiv:1606.04934, eq. 15), here of each image rather than of the batch's
            average: an image's loss does not depend on the others.
        free_bits_steps: updates during which it does; 0: always.
        capacity: nats.
        capacity_gamma: 0 for no capacity.
        capacity_steps: updates over which the capacity rises linearly from 0.
    """

    def __init__(
        self,
        beta: float = 1.0,
        *,
        kl_warmup_steps: int = 0,
        free_bits: float = 0.0,
        free_bits_steps: int = 0,
        capacity: float = 0.0,
        capacity_gamma: float = 0.0,
        capacity_steps: int = 0,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.free_bits = free_bits
        self.free_bits_steps = free_bits_steps
        self.capacity = capacity
        self.capacity_gamma = capacity_gamma
        self.capacity_steps = capacity_steps

    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:  # noqa: ARG002 none is needed
        """The loss and its parts; the rate among them is the KL itself. See `Objective.forward`.

        Raises:
            ConfigError: free bits with a prior whose KL has no closed form.
        """
        distortion, rates = result.distortion, result.rates
        counted = rate = total(rates)
        if self.capacity_gamma:
            counted = (rate - _risen(self.capacity, step, self.capacity_steps)).abs()
        elif self.free_bits:
            parts = _dimensions(result) if len(rates) == 1 else torch.stack(rates, dim=1)
            counted = parts.clamp(min=self.free_bits).sum(1)
            if self.free_bits_steps:
                counted = torch.where(step < self.free_bits_steps, counted, rate)
        return Terms(distortion + self.beta_at(step) * counted, distortion, rate, {})

    def beta_at(self, step: Tensor) -> float | Tensor:
        """Of the rate, or of its distance from the capacity."""
        return self.capacity_gamma or _risen(self.beta, step, self.kl_warmup_steps)


def _dimensions(result: Pass) -> Tensor:
    """The rate of each latent dimension, (B, Z) nats."""
    if (kl := result.kl) is None:
        raise ConfigError("Elbo: free bits expect a prior whose KL has a closed form. Use a standard normal.")
    return kl


def _risen(value: float, step: Tensor, steps: int) -> float | Tensor:
    """Where something is that rises linearly from 0 to the value over a number of steps."""
    return value * torch.clamp(step / steps, max=1.0) if steps else value
