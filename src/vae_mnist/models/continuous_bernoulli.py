"""The continuous Bernoulli likelihood (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845)."""

import torch
from torch import Tensor

from .likelihoods import Pixels

SERIES = 0.5  # logits nearer to 0 than this are computed by series: there the closed forms subtract equal numbers
# A mean this near to 0 or 1 is half a level of 8-bit pixels away: a larger logit would describe how they were rounded.
# Without a bound, images that are always black somewhere would have an infinite density.
LARGEST = 510.0
EDGE = 0.01  # means nearer to 0 or 1 than this are not asked of outputs: their logits exceed 100


class ContinuousBernoulli:
    """Independent pixels in [0, 1] of density exp(l x) l / (exp(l) - 1); the outputs are l, the logits of lambda."""

    name = "nll"
    outputs = 1
    pixels: Pixels = "grey"
    independent = True
    words = (
        "nats per image, a density of pixel values in [0, 1] (continuous Bernoulli), which may be negative and does "
        "not compare with probabilities of binarised or 8-bit pixels"
    )

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats; see `Likelihood.nll`."""
        logits = _logits_of(outputs)
        return (log_normaliser(logits) - logits * images.float()).flatten(-3).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1]: of the distribution, not lambda."""
        return mean_of(_logits_of(outputs))

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Grey pixels, (N, C, H, W) in [0, 1], by the inverse of the distribution function."""
        logits = _logits_of(outputs).cpu()
        uniform = torch.rand(logits.shape, generator=generator)
        size = logits.abs().clamp(min=1e-6)  # at 0 the distribution is uniform, and the formula 0/0
        falling = -torch.log1p(uniform * torch.expm1(-size)) / size
        return torch.where(logits < 0, falling, 1 - falling).clamp(0, 1)

    def outputs_of(self, means: Tensor) -> Tensor:
        """The logits whose distributions have these means, (C, H, W), by bisection; means within [EDGE, 1 - EDGE]."""
        wanted = means.double().clamp(EDGE, 1 - EDGE)
        low, high = torch.full_like(wanted, -1 / EDGE), torch.full_like(wanted, 1 / EDGE)
        for _ in range(50):
            middle = (low + high) / 2
            above = mean_of(middle) > wanted
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return low.to(means.dtype)


def _logits_of(outputs: Tensor) -> Tensor:
    return outputs.float().clamp(-LARGEST, LARGEST)


def log_normaliser(logits: Tensor) -> Tensor:
    """Log of the integral of exp(l x) over [0, 1]: log (exp(l) - 1) / l."""
    near = logits.abs() < SERIES
    # A branch that is not taken must be finite too: its gradient is multiplied by 0.
    size, small = torch.where(near, 1.0, logits).abs(), torch.where(near, logits, 0.0)
    square = small.square()
    series = small / 2 + square / 24 * (1 - square / 120 * (1 - square / 63))
    return torch.where(near, series, logits.relu() + torch.log(-torch.expm1(-size) / size))


def mean_of(logits: Tensor) -> Tensor:
    """The mean of the distribution, 1 / (1 - exp(-l)) - 1 / l: the derivative of `log_normaliser`."""
    near = logits.abs() < SERIES
    size, small = torch.where(near, 1.0, logits).abs(), torch.where(near, logits, 0.0)
    square = small.square()
    series = 0.5 + small / 12 * (1 - square / 60 * (1 - square / 42))
    rising = -1 / torch.expm1(-size) - 1 / size
    return torch.where(near, series, torch.where(logits < 0, 1 - rising, rising))
