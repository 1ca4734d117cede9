"""A total correlation that a discriminator estimates: FactorVAE (Kim & Mnih 2018, arXiv:1802.05983)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from ..config.objective import FactorConfig
from ..errors import InputError
from ..models import Pass
from .terms import Objective, Terms


class Factor(Objective):
    """distortion + rate + gamma x total correlation (eq. 2), the latter a log density ratio.

    The discriminator, the second player, tells codes from codes of which each dimension is shuffled over the batch: its
    logit comes to log q(z) - sum_j log q(z_j) (eq. 3). Both are of the same batch; the paper shuffles a second one.

    Args:
        config: gamma, and the discriminator's sizes and optimizer.
        latent_dim: Z.
    """

    def __init__(self, config: FactorConfig, latent_dim: int) -> None:
        super().__init__()
        self.gamma = config.gamma
        self.noise_dim = latent_dim
        self.optimizer_settings = {"lr": config.learning_rate, "betas": (config.adam_beta1, config.adam_beta2)}
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([latent_dim, *[config.hidden_dim] * config.layers]):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(config.hidden_dim, 1))

    def forward(self, result: Pass, step: Tensor, noise: Tensor | None = None) -> Terms:  # noqa: ARG002 does not change
        """The loss and its parts, of a model with latents of one group; see `Objective.forward`.

        Raises:
            InputError: no noise.
        """
        if noise is None:
            raise InputError(f"Factor: expected noise (B, {self.noise_dim}) to shuffle the codes by, got none.")
        z = result.z[0][0]  # (B, Z)
        # With one backward pass for both players, neither's gradient may reach the other: weights without gradient
        # here, codes without gradient below.
        fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        total_correlation = functional_call(self.discriminator, fixed, (z,)).squeeze(1)  # (B,)
        codes = z.detach()
        together, apart = self.discriminator(torch.cat([codes, shuffled(codes, noise)])).squeeze(1).chunk(2)
        adversary = 0.5 * (softplus(-together) + softplus(apart))  # (B,) nats, cross-entropy
        accuracy = 0.5 * ((together > 0).float() + (apart <= 0).float())
        loss = result.distortion + result.rate + self.gamma * total_correlation
        extra = {"total_correlation": total_correlation, "discriminator_accuracy": accuracy}
        return Terms(loss, result.distortion, result.rate, extra, adversary)


def shuffled(codes: Tensor, noise: Tensor) -> Tensor:
    """The codes (B, Z), each dimension permuted over the batch as the noise (B, Z) is ordered (algorithm 1)."""
    return codes.gather(0, noise.argsort(dim=0, stable=True))
