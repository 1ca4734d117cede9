"""A Gaussian likelihood whose scale is learned (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202)."""

from math import log, pi, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from .likelihoods import Pixels

# Grey levels are 1/255 apart: a smaller scale would describe how they were rounded. Without a bound, images that the
# decoder copies exactly (black ones, say) would have an infinite density.
LOG_SCALE_MIN = -log(255)


class GaussianPixels(nn.Module):
    """Independent Gaussian pixels of one learned scale; the outputs are the logits of the means."""

    name = "nll"
    outputs = 1
    pixels: Pixels = "grey"
    independent = True
    words = (
        "nats per image, a density of pixel values (Gaussian with one learned scale), which may be negative and does "
        "not compare with probabilities of binarised or 8-bit pixels"
    )

    def __init__(self) -> None:
        super().__init__()
        self.free_log_scale = nn.Parameter(torch.tensor(log(0.25)))  # about the spread of MNIST's pixels

    @property
    def log_scale(self) -> Tensor:
        """Log of the standard deviation of a pixel, () float32, above LOG_SCALE_MIN."""
        return LOG_SCALE_MIN + functional.softplus(self.free_log_scale.float() - LOG_SCALE_MIN)

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats; see `Likelihood.nll`."""
        squares = (images.float() - torch.sigmoid(outputs.float())).square().flatten(-3).sum(-1)
        log_scale, pixels = self.log_scale, prod(outputs.shape[-3:])
        return 0.5 * squares * torch.exp(-2 * log_scale) + pixels * (log_scale + 0.5 * log(2 * pi))

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1]."""
        return torch.sigmoid(outputs.float())

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Grey pixels, (N, C, H, W); values outside [0, 1] become 0 or 1."""
        means = self.mean(outputs).cpu()
        noise = torch.randn(means.shape, generator=generator)
        return (means + self.log_scale.detach().exp().cpu() * noise).clamp(0, 1)

    def outputs_of(self, means: Tensor) -> Tensor:
        """The logits of `means`, (C, H, W); a pixel that is always black stays finite."""
        return torch.logit(means, eps=1e-3)
