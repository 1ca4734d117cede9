"""The losses: nats per image, summed over pixels and latent dimensions; lower is better."""

from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ..errors import InputError
from ..models import VAEOutput

_LONGEST_PRODUCT = 126


class NegativeElbo(NamedTuple):
    """The parts of the loss, (B,) nats each."""

    loss: Tensor  # reconstruction + beta x kl
    reconstruction: Tensor  # -log p(x|z)
    kl: Tensor  # KL(q(z|x) || p(z))


def reconstruction_nll(logits: Tensor, images: Tensor, *, check_range: bool = True) -> Tensor:
    """Bernoulli cross-entropy -sum_pixels [x log p + (1 - x) log(1 - p)], (B,) nats, computed in float32.

    For binary pixels this is -log p(x|z). For grey pixels it is the expected value of that over pixels drawn
    with probability x: no density of grey images.

    Args:
        logits: (B, C, H, W), log p / (1 - p).
        images: (B, C, H, W), in [0, 1].
        check_range: False spares the look at every pixel where the caller scaled them itself.

    Raises:
        InputError: shapes differ, or a pixel lies outside [0, 1].
    """
    if logits.shape != images.shape:
        raise InputError(
            f"reconstruction_nll: expected images of the logits' shape {tuple(logits.shape)}, "
            f"got {tuple(images.shape)}."
        )
    if check_range and images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            "reconstruction_nll: expected pixels in [0, 1], "
            f"got {images.min().item():.4g} to {images.max().item():.4g}. Divide 8-bit pixels by 255."
        )
    nll: Tensor = _BernoulliNll.apply(logits.float(), images.float())
    return nll


class _BernoulliNll(torch.autograd.Function):
    """Torch's own takes a logarithm for each pixel, and four times as long.

    softplus(l) - x l = relu(l) - x l - log sigmoid(|l|), and the last term needs one logarithm a row: a product of
    factors from 1/2 to 1 is a number above 2^-126 for any row of up to 126 pixels.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, images: Tensor) -> Tensor:
        ctx.save_for_backward(logits, images)
        factors = logits.abs().sigmoid_()
        if logits.shape[-1] <= _LONGEST_PRODUCT:
            factors = factors.prod(-1)
        linear = logits.relu().addcmul_(images, logits, value=-1)
        return linear.flatten(1).sum(1).sub_(factors.log_().flatten(1).sum(1))

    @staticmethod
    def backward(ctx: Any, nll_grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        logits, images = ctx.saved_tensors
        each = nll_grad.view(-1, *(1 for _ in logits.shape[1:]))
        return (
            (logits.sigmoid() - images) * each if ctx.needs_input_grad[0] else None,
            -logits * each if ctx.needs_input_grad[1] else None,
        )


def kl_per_dimension(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent dimension, (B, Z) nats (Kingma & Welling 2014, app. B)."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp())


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)), (B,) nats; mean and logvar are (B, Z)."""
    return kl_per_dimension(mean, logvar).sum(1)


def negative_elbo(output: VAEOutput, images: Tensor, beta: float = 1.0, *, check_range: bool = True) -> NegativeElbo:
    """The negative evidence lower bound and its parts, (B,) nats each.

    Args:
        output: of the model, for these images.
        images: (B, C, H, W), in [0, 1].
        beta: weight of the KL term (Higgins et al. 2017); the bound is the one at 1.
        check_range: see `reconstruction_nll`.
    """
    reconstruction = reconstruction_nll(output.logits, images, check_range=check_range)
    kl = kl_divergence(output.mean, output.logvar)
    return NegativeElbo(reconstruction + beta * kl, reconstruction, kl)


def importance_weighted_nll(log_weights: Tensor) -> Tensor:
    """-log 1/k sum_i w_i, (B,) nats: an upper bound on -log p(x) that k tightens (Burda et al. 2016, eq. 8).

    Args:
        log_weights: (k, B), log p(x, z_i) - log q(z_i|x) for z_i drawn from q(z|x).
    """
    return log(log_weights.shape[0]) - torch.logsumexp(log_weights, dim=0)
