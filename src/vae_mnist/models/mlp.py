"""The network of Kingma & Welling (2014), arXiv:1312.6114: one hidden layer each in encoder and decoder."""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from .network import EncoderDecoder, Shapes


class Mlp(EncoderDecoder):
    """Pixels -> hidden -> posterior; code -> hidden -> outputs.

    Args:
        shapes: of images, codes and outputs.
        hidden_dim: width of the hidden layer on each side.
    """

    def __init__(self, shapes: Shapes, hidden_dim: int = 512) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(shapes.inputs), hidden_dim), nn.ReLU())
        self.posterior = nn.Linear(hidden_dim, 2 * shapes.latent_dim)  # mean and log-variance in one product
        self.decoder = nn.Sequential(
            nn.Linear(shapes.code_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, prod(shapes.outputs)),
            nn.Unflatten(1, tuple(shapes.outputs)),
        )

    @torch.no_grad()
    def start_at(self, outputs: Tensor) -> None:
        """Start the decoder at these outputs, (C', H, W)."""
        cast("Tensor", self.decoder[2].bias).copy_(outputs.flatten())
