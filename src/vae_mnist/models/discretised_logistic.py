"""The discretised logistic likelihood of 8-bit pixels (Salimans et al. 2017, arXiv:1701.05517, without mixture)."""

import torch
from torch import Tensor
from torch.nn import functional

from .likelihoods import Pixels

HALF = 1 / 255  # half the distance of two levels, where pixels lie in [-1, 1]
LOG_SCALE_MIN, LOG_SCALE_MAX = -7.0, 7.0  # the lower bound is that of PixelCNN++
EDGE = 1e-3  # means nearer to 0 or 1 than this are not asked of outputs


class DiscretisedLogistic:
    """Independent pixels of 256 levels; the outputs are location and log-scale of a logistic distribution on [-1, 1].

    A level has the probability of the interval around it; 0 and 255 have the tails as well.
    """

    name = "nll"
    outputs = 2
    pixels: Pixels = "levels"
    independent = True
    words = (
        "nats per image, probabilities of 8-bit pixels (discretised logistic): an upper bound on the NLL of the "
        "images as they are stored"
    )

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats, of each pixel's nearest level; see `Likelihood.nll`."""
        location, log_scale = _parameters_of(outputs)
        levels = (images.float() * 255).round()
        precision = torch.exp(-log_scale)
        centred = levels * (2 / 255) - 1 - location
        upper, lower = (centred + HALF) * precision, (centred - HALF) * precision
        # s(u) - s(l) = s(u) s(-l) (1 - exp(l - u)) for the logistic function s: no difference of near numbers. Beyond
        # the edges s(u) or s(-l) is 1, and the last factor with it.
        width = torch.log(-torch.expm1(-2 * HALF * precision))
        first, last = levels <= 0, levels >= 255  # noqa: PLR2004
        nll = functional.softplus(-upper).masked_fill(last, 0) + functional.softplus(lower).masked_fill(first, 0)
        return (nll - width.masked_fill(first | last, 0)).flatten(-3).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1], of the logistic with its tails moved to 0 and 1.

        The mean over the levels differs by less than half a level.
        """
        location, log_scale = _parameters_of(outputs)
        centre, scale = (location + 1) / 2, torch.exp(log_scale) / 2
        means = scale * (functional.softplus(centre / scale) - functional.softplus((centre - 1) / scale))
        return means.clamp(0, 1)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels of 256 levels, (N, C, H, W), each a multiple of 1/255."""
        location, log_scale = (each.cpu() for each in _parameters_of(outputs))
        uniform = torch.rand(location.shape, generator=generator)
        drawn = location + torch.exp(log_scale) * torch.logit(uniform)
        return ((drawn + 1) * 127.5).round().clamp(0, 255) / 255

    def outputs_of(self, means: Tensor) -> Tensor:
        """The locations at log-scale 0 for which `mean` gives these means, and 0s: (2C, H, W)."""
        # With scale 1/2 on [0, 1]: softplus(c) - softplus(c - 2) = 2 mean, solved for c = 2 centre.
        doubled = 2 * means.clamp(EDGE, 1 - EDGE)
        centre = torch.log(torch.expm1(doubled) / -torch.expm1(doubled - 2)) / 2
        return torch.cat([2 * centre - 1, torch.zeros_like(centre)], dim=-3)


def _parameters_of(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Location and log-scale, (…, C, H, W) float32 each, of outputs (…, 2C, H, W)."""
    location, log_scale = outputs.float().chunk(2, dim=-3)
    return location, log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
