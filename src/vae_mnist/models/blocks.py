"""Layers that the convolutional networks are made of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import pixel_shuffle, silu

from ..errors import ConfigError


class ChannelsLast(nn.Module):
    """Lay out images and, on the way back, their gradients channels last: fastest for convolutions on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        laid_out: Tensor = _LayOut.apply(x)
        return laid_out


class _LayOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:  # noqa: ARG004 nothing is saved
        return x.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return gradient.contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), 3 x 3, without batch statistics; it starts as the identity (Zhang et al. 2019).

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        residual: Tensor = self.second(silu(self.first(silu(x))))
        return x + residual


class Upsample(nn.Module):
    """Each cell becomes `factor` x `factor` cells by a linear map of its own channels (Shi et al. 2016).

    Args:
        before: channels of the input.
        after: channels of the output.
        size: (H, W) of the output; what sticks out is cut off.
        factor: of the sides.
    """

    def __init__(self, before: int, after: int, size: Sequence[int], factor: int = 2) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after * factor**2, 1)
        self.size, self.factor = tuple(size), factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', H, W), laid out channels last, in which convolutions on a CPU are fastest."""
        height, width = self.size
        large = pixel_shuffle(self.convolution(silu(x)), self.factor)[:, :, :height, :width]
        return large.contiguous(memory_format=torch.channels_last)


class ToPixels(nn.Module):
    """From the finest feature map to what the likelihood reads, with a residual block at the size of the image.

    Args:
        channels: of the feature map; at the size of the image half as many.
        outputs: (C', H, W).
        patch: pixels a side of a cell of the feature map.
    """

    def __init__(self, channels: int, outputs: Sequence[int], patch: int) -> None:
        super().__init__()
        width = max(channels // 2, 1)
        self.up = Upsample(channels, width, outputs[1:], patch)
        self.block = ResidualBlock(width)
        self.convolution = nn.Conv2d(width, outputs[0], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', H, W)."""
        outputs: Tensor = self.convolution(silu(self.block(self.up(x))))
        return outputs

    @torch.no_grad()
    def start_at(self, outputs: Tensor) -> None:
        """Start at the mean over the image of each channel of outputs (C', H, W)."""
        bias = self.convolution.bias
        assert bias is not None  # noqa: S101 for the type checker: it was made with one
        bias.copy_(outputs.mean((1, 2)))


def sizes_of(name: str, image: Sequence[int], patch: int, levels: int) -> list[tuple[int, int]]:
    """(H, W) of each level: the image in cells of `patch` pixels, then halved from level to level, rounded up.

    Raises:
        ConfigError: the smallest level would have less than 2 x 2 cells.
    """
    height, width = image[-2:]
    sizes = [(-(-height // (patch << level)), -(-width // (patch << level))) for level in range(levels)]
    if min(sizes[-1]) < 2:  # noqa: PLR2004
        needed = 1 + (patch << (levels - 1))
        raise ConfigError(
            f"{name}.channels: {levels} levels of cells of {patch} x {patch} pixels expect images of at least "
            f"{needed} x {needed} pixels, got {height} x {width}. Use fewer levels, or --params=model.network=mlp."
        )
    return sizes


def stem(channels: int, after: int, patch: int) -> nn.Conv2d:
    """The first convolution: from pixels to overlapping cells of patch x patch pixels, as many as `sizes_of` says."""
    return nn.Conv2d(channels, after, 2 * patch + 1, stride=patch, padding=patch)


def down(channels: int, after: int) -> nn.Conv2d:
    """From one level to the next, half as high and wide."""
    return nn.Conv2d(channels, after, 3, stride=2, padding=1)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all weights zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
