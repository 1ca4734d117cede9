"""A likelihood of dependent pixels: PixelVAE (Gulrajani et al. 2017, arXiv:1611.05013)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..config.model import AutoregressiveConfig
from .blocks import zeroed
from .likelihoods import Bernoulli, Pixels

_FIRST = 7  # pixels a side that the first convolution sees


class Autoregressive(nn.Module):
    """Each pixel is black or white with a probability that depends on the code and on the pixels before it.

    log p(x|z) = sum_i log p(x_i | x_1, …, x_{i-1}, z), row by row from the top. Masked convolutions of the image (van
    den Oord et al. 2016, arXiv:1601.06759) see only the pixels before. The outputs are added to their feature maps, and
    the first C outputs to the logits as well: it starts as independent pixels. The channels of a pixel do not depend on
    each other.

    Args:
        channels: C, of the image.
        config: number of feature maps for each channel, and of residual blocks.
    """

    name = "bce"
    pixels: Pixels = "binary"
    independent = False
    words = "nats per image, binary pixels, each given the ones before it"

    def __init__(self, channels: int, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.outputs = config.features
        width = config.features * channels
        self.first = _Masked(channels, width, _FIRST, sees_itself=False)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(config.blocks))
        self.last = zeroed(nn.Conv2d(width, channels, 1))
        self.reach = _FIRST // 2 + 2 * config.blocks  # pixels up, left and right that a pixel depends on
        self.each = Bernoulli()

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats, of images of 0 and 1; see `Likelihood.nll`."""
        samples, count = outputs.shape[:2]
        seen = self.first(images.contiguous(memory_format=torch.channels_last)).repeat(samples, 1, 1, 1)
        return self.each.nll(self._logits(outputs.flatten(0, 1), seen).unflatten(0, (samples, count)), images)

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1], each given pixels drawn before it.

        The same random numbers are used for every image: an image is a function of its code.
        """
        generator = torch.Generator().manual_seed(0)
        return self._by_turns(outputs, torch.rand(1, *self._shape(outputs), generator=generator))[0]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Black or white pixels, (N, C, H, W), each 0 or 1."""
        return self._by_turns(outputs, torch.rand(len(outputs), *self._shape(outputs), generator=generator))[1].cpu()

    def outputs_of(self, means: Tensor) -> Tensor:
        """The logits of `means` (C, H, W), and 0s, (C', H, W)."""
        logits = self.each.outputs_of(means)
        return torch.cat([logits, logits.new_zeros((self.outputs - 1) * len(means), *means.shape[1:])])

    def _shape(self, outputs: Tensor) -> tuple[int, ...]:
        return self.last.out_channels, *outputs.shape[2:]

    def _logits(self, outputs: Tensor, seen: Tensor) -> Tensor:
        """(N, C, H, W), of outputs and of what the first convolution has seen, (N, C', H, W) each."""
        x = outputs + seen
        for block in self.blocks:
            x = block(x)
        logits: Tensor = outputs[:, : self.last.out_channels].float() + self.last(silu(x)).float()
        return logits

    def _by_turns(self, outputs: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel means, and pixels that are 1 where the uniform number is below the mean, (N, C, H, W) each."""
        uniform, shape = uniform.to(outputs.device), (len(outputs), *self._shape(outputs))
        means, drawn = outputs.new_zeros(shape, dtype=torch.float32), outputs.new_zeros(shape, dtype=torch.float32)
        for row in range(shape[2]):
            for column in range(shape[3]):
                # No more than the pixel depends on.
                top, left, right = max(0, row - self.reach), max(0, column - self.reach), column + self.reach + 1
                part = (..., slice(top, row + 1), slice(left, right))
                logits = self._logits(outputs[part], self.first(drawn[part]))[..., -1, column - left]
                means[..., row, column] = logits.sigmoid()
                drawn[..., row, column] = (uniform[..., row, column] < means[..., row, column]).float()
        return means, drawn


class _Block(nn.Module):
    """A residual block that sees each pixel and those before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Masked(channels, channels, 3, sees_itself=True)
        self.second = zeroed(_Masked(channels, channels, 3, sees_itself=True))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        residual: Tensor = self.second(silu(self.first(silu(x))))
        return x + residual


class _Masked(nn.Conv2d):
    """A convolution that sees the rows above, the pixels to the left, and, if `sees_itself`, the pixel itself."""

    def __init__(self, channels: int, after: int, size: int, *, sees_itself: bool) -> None:
        super().__init__(channels, after, (size // 2 + 1, size), padding=size // 2)
        self.unseen = size // 2 + 1 - sees_itself  # of the last row's weights

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        rows, columns = self.kernel_size
        mask = torch.ones(rows, columns, device=x.device)
        mask[-1, columns - self.unseen :] = 0
        result: Tensor = self._conv_forward(x, self.weight * mask, self.bias)
        return result[:, :, : x.shape[2]]  # without the rows that see below the image
