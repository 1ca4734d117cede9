"""A convolutional network: each level halves height and width, and the decoder mirrors the encoder."""

from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, fold

from ..config.model import ConvConfig
from ..errors import ConfigError
from .blocks import ChannelsLast
from .network import EncoderDecoder, Shapes

SMALLEST = 16  # pixels a side


class Conv(EncoderDecoder):
    """4 x 4 convolutions of stride 2 with ReLU, a dense layer, and the same back.

    Args:
        shapes: of images, codes and outputs; images of 16 x 16 or more.
        config: channels of each level, width of the dense layer.

    Raises:
        ConfigError: images too small for so many levels.
    """

    def __init__(self, shapes: Shapes, config: ConvConfig) -> None:
        super().__init__()
        channels, height, width = shapes.inputs
        levels, needed = len(config.channels), max(SMALLEST, 2 ** len(config.channels))
        if min(height, width) < needed:
            raise ConfigError(
                f"model.conv.channels: {levels} levels expect images of at least {needed} x {needed} pixels, "
                f"got {height} x {width}. Use fewer levels, or --params=model.network=mlp."
            )
        sizes = [(height >> level, width >> level) for level in range(levels + 1)]
        small = (config.channels[-1], *sizes[-1])
        down: list[nn.Module] = []
        for before, after in pairwise([channels, *config.channels]):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        flat = nn.Sequential(ChannelsLast(), nn.Flatten())
        self.encoder = nn.Sequential(*down, flat, nn.Linear(prod(small), config.hidden_dim), nn.ReLU())
        self.posterior = nn.Linear(config.hidden_dim, 2 * shapes.latent_dim)  # mean and log-variance in one product
        up: list[nn.Module] = []
        for level in reversed(range(levels)):
            # An odd size has one row more than twice its half.
            odd = (sizes[level][0] % 2, sizes[level][1] % 2)
            after = config.channels[level - 1] if level else shapes.outputs[0]
            up += [nn.ReLU(), _Up(config.channels[level], after, odd)]
        self.decoder = nn.Sequential(
            nn.Linear(shapes.code_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, prod(small)),
            nn.Sequential(nn.Unflatten(1, small), ChannelsLast()),
            *up,
        )

    @torch.no_grad()
    def start_at(self, outputs: Tensor) -> None:
        """Start each channel of the decoder at its mean over the image, of outputs (C', H, W)."""
        cast("Tensor", self.decoder[-1].bias).copy_(outputs.mean((1, 2)))


class _Up(nn.ConvTranspose2d):
    """A 4 x 4 transposed convolution of stride 2, in the form that is fastest on a CPU.

    Args:
        before: channels of the input.
        after: channels of the output.
        odd: rows and columns of the output beyond twice those of the input, 0 or 1 each.
    """

    def __init__(self, before: int, after: int, odd: tuple[int, int]) -> None:
        super().__init__(before, after, 4, stride=2, padding=1, output_padding=odd)
        self.odd = odd

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) -> (N, C', 2H, 2W), or one row or column more."""
        if self.out_channels == 1:  # what each input cell adds to the output, and the sums
            size = (2 * x.shape[2] + self.odd[0], 2 * x.shape[3] + self.odd[1])
            without = fold(self.weight.flatten(1).t() @ x.flatten(2), size, 4, padding=1, stride=2)
        else:
            without = conv_transpose2d(x, self.weight, None, stride=2, padding=1, output_padding=self.odd)
        # Added here, because oneDNN's gradient of a bias takes half as long as its others.
        return without.add_(cast("Tensor", self.bias).to(without.dtype)[:, None, None])
