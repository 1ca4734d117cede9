"""The network of Kingma & Welling (2014), arXiv:1312.6114: one hidden layer each in encoder and decoder."""

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from .network import Network


class Mlp(Network):
    """Pixels -> hidden -> posterior; code -> hidden -> outputs.

    Args:
        image_shape: (C, H, W).
        latent_dim: Z.
        outputs: of the decoder, per channel.
        hidden_dim: width of the hidden layer on each side.
    """

    def __init__(self, image_shape: Sequence[int], latent_dim: int, outputs: int = 1, hidden_dim: int = 512) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), hidden_dim), nn.ReLU())
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)  # mean and log-variance in one product
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, outputs * prod(image_shape)),
            nn.Unflatten(1, (outputs * channels, height, width)),
        )

    @torch.no_grad()
    def start_at(self, outputs: Tensor) -> None:
        """Start the decoder at these outputs, (C', H, W)."""
        cast("Tensor", self.decoder[2].bias).copy_(outputs.flatten())
