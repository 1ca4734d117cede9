"""Likelihoods p(x|z) of a decoder's outputs, in nats per image, summed over pixels."""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

# What it is a distribution of: 0 or 1, grey values in [0, 1] (its numbers are densities), or the 256 levels.
Pixels = Literal["binary", "grey", "levels"]


class Likelihood(Protocol):
    """p(x|z), of a decoder's outputs: C' = outputs x C channels, all C of the first output, then all C of the second.

    One with parameters is an nn.Module, so that they are trained with the model's.
    """

    name: str  # of its negative logarithm, in tables
    outputs: int  # that it needs of the decoder, per channel of the image
    pixels: Pixels
    independent: bool  # are pixels, given the code
    words: str  # what its numbers mean

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats in float32.

        Args:
            outputs: (S, B, C', H, W).
            images: (B, C, H, W), in [0, 1]; the range is not checked.
        """
        ...

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1], of outputs (N, C', H, W)."""
        ...

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels drawn from p(x|z), (N, C, H, W) in [0, 1], of outputs (N, C', H, W); drawn on the CPU."""
        ...

    def outputs_of(self, means: Tensor) -> Tensor:
        """The outputs (C', H, W) whose pixel means are `means` (C, H, W), as near as is finite."""
        ...


_BOUND = "test pixels once, from seed 0: the negative ELBO is an upper bound on their NLL"
_BINARY = {
    "dynamic": f"nats per image, binary pixels: training pixels drawn anew at each step, {_BOUND}",
    "static": f"nats per image, binary pixels: training pixels drawn once, {_BOUND}",
}


def loss_words(likelihood: str, binarisation: str) -> str:
    """What losses mean, after training with `train.binarisation`.

    Args:
        likelihood: what they mean with grey pixels.
        binarisation: none, dynamic or static.
    """
    return _BINARY.get(binarisation, likelihood)


def shown_words(likelihood: Likelihood) -> str:
    """What the images are that `Likelihood.mean` gives."""
    return "pixel means" if likelihood.independent else "pixel means given the pixels before"


class Bernoulli:
    """Independent Bernoulli pixels; the outputs are logits, log p / (1 - p)."""

    name = "bce"
    outputs = 1
    pixels: Pixels = "binary"
    independent = True
    words = (
        "nats per image, grey pixels as Bernoulli means: an upper bound on the NLL of dynamically binarised images, "
        "no density of grey images"
    )

    def nll(self, outputs: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z), (S, B) nats; see `Likelihood.nll`."""
        nll: Tensor = _BernoulliNll.apply(outputs.float(), images.float())
        return nll

    def mean(self, outputs: Tensor) -> Tensor:
        """Pixel means, (N, C, H, W) in [0, 1]."""
        return torch.sigmoid(outputs.float())

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Black or white pixels, (N, C, H, W), each 0 or 1."""
        return torch.bernoulli(self.mean(outputs).cpu(), generator=generator)

    def outputs_of(self, means: Tensor) -> Tensor:
        """The logits of `means`, (C, H, W); a pixel that is always black stays finite."""
        return torch.logit(means, eps=1e-3)


_LONGEST_PRODUCT = 126


class _BernoulliNll(torch.autograd.Function):
    """Binary cross-entropy with logits, summed over the last three dimensions; images may broadcast.

    PyTorch's own takes a logarithm for each pixel, and four times as long.
    softplus(l) - x l = relu(l) - x l - log sigmoid(|l|), and the last term needs one logarithm a row: a product of
    factors from 1/2 to 1 is a number above 2^-126 for any row of up to 126 pixels.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, images: Tensor) -> Tensor:
        ctx.save_for_backward(logits, images)
        factors = logits.abs().sigmoid_()
        if logits.shape[-1] <= _LONGEST_PRODUCT:
            factors = factors.prod(-1)
        logs = factors.log_().flatten(logits.ndim - 3).sum(-1)
        return logits.relu().addcmul_(images, logits, value=-1).flatten(-3).sum(-1).sub_(logs)

    @staticmethod
    def backward(ctx: Any, nll_grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        logits, images = ctx.saved_tensors
        each = nll_grad[..., None, None, None]
        return (
            (logits.sigmoid() - images) * each if ctx.needs_input_grad[0] else None,
            (-logits * each).sum_to_size(images.shape) if ctx.needs_input_grad[1] else None,
        )
