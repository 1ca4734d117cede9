"""Residual convolutions (He et al. 2016) without batch statistics: images of one batch do not depend on each other."""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from ..config.model import ResidualConfig
from .blocks import ChannelsLast, ResidualBlock, ToPixels, Upsample, down, sizes_of, stem
from .network import EncoderDecoder, Shapes


class Residual(EncoderDecoder):
    """Cells of some pixels, residual blocks at each of several resolutions, a dense layer, and the same back.

    Args:
        shapes: of images, codes and outputs.
        config: pixels of a cell, channels and number of blocks of each level, width of the dense layer.

    Raises:
        ConfigError: images too small for so many levels.
    """

    def __init__(self, shapes: Shapes, config: ResidualConfig) -> None:
        super().__init__()
        channels, hidden = config.channels, config.hidden_dim
        sizes = sizes_of("model.residual", shapes.inputs, config.patch, len(channels))
        small = (channels[-1], *sizes[-1])

        def blocks(width: int) -> list[nn.Module]:
            return [ResidualBlock(width) for _ in range(config.blocks)]

        layers: list[nn.Module] = [stem(shapes.inputs[0], channels[0], config.patch), *blocks(channels[0])]
        for before, after in pairwise(channels):
            layers += [nn.SiLU(), down(before, after), *blocks(after)]
        self.encoder = nn.Sequential(
            ChannelsLast(), *layers, nn.SiLU(), nn.Flatten(), nn.Linear(prod(small), hidden), nn.SiLU()
        )
        self.posterior = nn.Linear(hidden, 2 * shapes.latent_dim)  # mean and log-variance in one product
        layers = blocks(channels[-1])
        for (before, after), size in zip(pairwise(reversed(channels)), reversed(sizes[:-1]), strict=True):
            layers += [Upsample(before, after, size), *blocks(after)]
        self.decoder = nn.Sequential(
            nn.Linear(shapes.code_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, prod(small)),
            nn.Unflatten(1, small),
            ChannelsLast(),
            *layers,
        )
        self.last = ToPixels(channels[0], shapes.outputs, config.patch)

    def decode(self, code: Tensor) -> Tensor:
        """What the likelihood reads, (N, C', H, W), of codes (N, code_dim)."""
        outputs: Tensor = self.last(self.decoder(code))
        return outputs

    def start_at(self, outputs: Tensor) -> None:
        """Start each channel of the decoder at its mean over the image, of outputs (C', H, W)."""
        self.last.start_at(outputs)
