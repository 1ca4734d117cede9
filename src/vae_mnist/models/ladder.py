"""A ladder: several groups of latents, inferred and generated from the top down.

Sønderby et al. (2016), arXiv:1602.02282; the residual state and the groups at each resolution are those of a small
VDVAE (Child 2021, arXiv:2011.10650).
"""

from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..config.model import LadderConfig
from .blocks import ResidualBlock, ToPixels, Upsample, down, sizes_of, stem, zeroed
from .gaussian import DiagonalGaussian
from .network import Choose, Network, Shapes

_BOUND = 5.0  # of the log-variance of a prior, and of its difference to the posterior's


class Ladder(Network):
    """Residual convolutions up, dense latents at the top, and a state on the way down that groups of latents add to.

    Args:
        shapes: of images, codes and outputs.
        config: pixels of a cell, and for each level channels, blocks, groups and latent channels of a group.

    Raises:
        ConfigError: images too small for so many levels.
    """

    def __init__(self, shapes: Shapes, config: LadderConfig) -> None:
        super().__init__()
        channels = config.channels
        sizes = sizes_of("model.ladder", shapes.inputs, config.patch, len(channels))
        self.small = (channels[-1], *sizes[-1])
        self.stem = stem(shapes.inputs[0], channels[0], config.patch)
        self.up = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(channels, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(down(before, after) for before, after in pairwise(channels))
        self.posterior = nn.Linear(prod(self.small), 2 * shapes.latent_dim)  # mean and log-variance in one product
        self.begin = nn.Linear(shapes.code_dim, prod(self.small))
        self.top = ResidualBlock(channels[-1])
        self.levels = nn.ModuleList(
            nn.ModuleList(_Group(width, latents) for _ in range(count))
            for width, count, latents in zip(channels, config.groups, config.latent_channels, strict=True)
        )
        self.enlarge = nn.ModuleList(
            Upsample(before, after, size) for (after, before), size in zip(pairwise(channels), sizes[:-1], strict=True)
        )
        self.last = ToPixels(channels[0], shapes.outputs, config.patch)
        self.groups = tuple(
            latents * prod(size)
            for size, count, latents in reversed(list(zip(sizes, config.groups, config.latent_channels, strict=True)))
            for _ in range(count)
        )

    def ascend(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Parameters of q(z_1|x), and the features of each level; see `Network.ascend`."""
        x, features = self.stem(images.contiguous(memory_format=torch.channels_last)), []
        for level, blocks in enumerate(self.up):
            x = blocks(x if level == 0 else self.down[level - 1](x))
            features.append(x)
        return self.posterior(silu(x).flatten(1)), tuple(features)

    def descend(self, code: Tensor, choose: Choose, features: tuple[Tensor, ...] | None) -> Tensor:
        """From the top group to what the likelihood reads; see `Network.descend`."""
        state = self.begin(code).unflatten(1, self.small).contiguous(memory_format=torch.channels_last)
        state, number = self.top(state), 0
        for level in reversed(range(len(self.levels))):
            for group in cast("nn.ModuleList", self.levels[level]):
                number += 1
                prior, posterior = group(state, features[level] if features is not None else None)
                state = cast("_Group", group).add(state, choose(number, prior, posterior))
            if level:
                state = self.enlarge[level - 1](state)
        outputs: Tensor = self.last(state)
        return outputs

    def start_at(self, outputs: Tensor) -> None:
        """Start each channel of the decoder at its mean over the image, of outputs (C', H, W)."""
        self.last.start_at(outputs)


class _Group(nn.Module):
    """Latents of L channels at one resolution: p(z|state), q(z|state, features), and what they add to the state."""

    def __init__(self, channels: int, latents: int) -> None:
        super().__init__()
        self.prior = zeroed(nn.Conv2d(channels, 2 * latents, 3, padding=1))
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)
        self.difference = zeroed(nn.Conv2d(channels, 2 * latents, 3, padding=1))
        self.enter = nn.Conv2d(latents, channels, 1)
        self.block = ResidualBlock(channels)
        self.latents = latents

    def forward(self, state: Tensor, features: Tensor | None) -> tuple[DiagonalGaussian, DiagonalGaussian | None]:
        """Prior and posterior of flat latents, (N, L x H x W), of state (N, C, H, W) and features (B, C, H, W)."""
        mean, logvar = self.prior(silu(state)).float().chunk(2, dim=1)
        prior = DiagonalGaussian(mean.flatten(1), _bounded(logvar).flatten(1))
        if features is None:
            return prior, None
        both = (state.unflatten(0, (-1, len(features))) + features).flatten(0, 1)
        shift, stretch = self.difference(silu(self.merge(silu(both)))).float().chunk(2, dim=1)
        # In units of the prior's standard deviation, as in NVAE (Vahdat & Kautz 2020, eq. 3).
        mean = prior.mean + torch.exp(0.5 * prior.logvar) * shift.flatten(1)
        return prior, DiagonalGaussian(mean, prior.logvar + _bounded(stretch).flatten(1))

    def add(self, state: Tensor, z: Tensor) -> Tensor:
        """The state (N, C, H, W) after latents (N, L x H x W)."""
        state = state + self.enter(z.unflatten(1, (self.latents, *state.shape[2:])))
        added: Tensor = self.block(state)
        return added


def _bounded(logvar: Tensor) -> Tensor:
    return _BOUND * torch.tanh(logvar / _BOUND)
