"""What a model is worth on held-out digits. All losses in nats per image, averaged over images, not batches."""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.images import as_pixels
from ..errors import InputError
from ..models import VAE
from ..objectives.elbo import importance_weighted_nll, kl_per_dimension, negative_elbo, reconstruction_nll

# One noise for every epoch, run and machine: test losses compare.
TEST_NOISE_SEED = 0

ACTIVE_UNIT_THRESHOLD = 0.01  # Burda et al. 2016, section 5.1


class LossParts(NamedTuple):
    """Mean nats per image."""

    loss: float  # reconstruction + beta x KL
    bce: float  # reconstruction: Bernoulli cross-entropy
    kld: float  # KL(q(z|x) || p(z))
    neg_elbo: float  # reconstruction + KL


class ImportanceWeighted(NamedTuple):
    """An importance-weighted bound on the negative log-likelihood."""

    nll: float  # mean nats per image
    standard_error: float  # of that mean over images; 0 for one image


@torch.inference_mode()
def loss_parts(model: VAE, images: Tensor, beta: float = 1.0, *, batch_size: int = 1000) -> LossParts:
    """The loss over all images with one posterior sample each, drawn from a fixed seed.

    Args:
        model: on the device of the images; its mode is not changed.
        images: (N, C, H, W) uint8, or float in [0, 1].
        beta: weight of the KL term in `loss`.
        batch_size: images held as floats at once.

    Raises:
        InputError: no images, a wrong shape or range.
    """
    _need_images(images)
    generator = torch.Generator().manual_seed(TEST_NOISE_SEED)
    sums = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        pixels = as_pixels(images[start : start + batch_size])
        noise = torch.randn(len(pixels), model.latent_dim, generator=generator).to(pixels.device)
        terms = negative_elbo(model(pixels, noise), pixels, beta, check_range=False)
        sums += torch.stack([part.sum(dtype=_widest(part)) for part in terms]).cpu()
    loss, bce, kld = (sums / len(images)).tolist()
    return LossParts(loss, bce, kld, bce + kld)


@torch.inference_mode()
def importance_weighted(
    model: VAE, images: Tensor, samples: int, *, seed: int = 0, chunk_size: int = 2000
) -> ImportanceWeighted:
    """The importance-weighted bound with `samples` posterior samples an image (Burda et al. 2016).

    Args:
        model: on the device of the images.
        images: (N, C, H, W), 0 or 1 (0 or 255 as uint8) for a bound on a likelihood.
        samples: k.
        seed: of the posterior samples.
        chunk_size: decoder outputs held at once; k may exceed it.

    Raises:
        InputError: no images, a wrong shape or range.
    """
    _need_images(images)
    generator = torch.Generator().manual_seed(seed)
    group = max(1, chunk_size // samples)
    # Filled in place: a small result kept from each group takes a hole that the next group's tensors then do not fit
    # into, and a long evaluation grows by hundreds of megabytes.
    nll = torch.empty(len(images), dtype=torch.float64)
    for start in range(0, len(images), group):
        pixels = as_pixels(images[start : start + group])
        mean, logvar = model.encode(pixels)
        log_weights = mean.new_empty(samples, len(pixels))
        for part in log_weights.split(chunk_size):
            part.copy_(_log_weights(model, pixels, mean, logvar, len(part), generator))
        nll[start : start + group] = importance_weighted_nll(log_weights)
    spread = nll.std().item() / sqrt(len(nll)) if len(nll) > 1 else 0.0
    return ImportanceWeighted(nll.mean().item(), spread)


def _log_weights(
    model: VAE, pixels: Tensor, mean: Tensor, logvar: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Log p(x|z) + log p(z) - log q(z|x) of `count` samples z of q(z|x), (count, B) nats."""
    noise = torch.randn(count, *mean.shape, generator=generator).to(mean.device)  # (K, B, Z)
    z = mean + torch.exp(0.5 * logvar) * noise
    repeated = pixels.expand(count, *pixels.shape).flatten(0, 1)  # (K x B, C, H, W)
    log_likelihood = -reconstruction_nll(model.decode_logits(z.flatten(0, 1)), repeated, check_range=False)
    # The 2 pi of both normal densities cancels.
    log_prior = -0.5 * z.square().sum(2)
    log_posterior = -0.5 * (noise.square() + logvar).sum(2)
    return log_likelihood.view(count, -1) + log_prior - log_posterior


@torch.inference_mode()
def posterior_statistics(model: VAE, images: Tensor, *, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Posterior means of all images (N, Z), and the KL of each latent dimension averaged over images (Z,) nats.

    Args:
        model: on the device of the images.
        images: (N, C, H, W) uint8, or float in [0, 1].
        batch_size: images held as floats at once.
    """
    _need_images(images)
    means, kl = [], torch.zeros(model.latent_dim, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        mean, logvar = model.encode(as_pixels(images[start : start + batch_size]))
        means.append(mean.cpu())
        kl += kl_per_dimension(mean, logvar).sum(0).double().cpu()
    return torch.cat(means), kl / len(images)


def active_units(means: Tensor) -> int:
    """How many latent dimensions carry information: Var_x(E_q[z_i]) > 0.01 (Burda et al. 2016).

    Args:
        means: (N, Z), posterior means over a whole set.
    """
    return int((means.var(dim=0, correction=0) > ACTIVE_UNIT_THRESHOLD).sum())


def _need_images(images: Tensor) -> None:
    if len(images) == 0:
        raise InputError("images: expected at least one, got none.")


def _widest(tensor: Tensor) -> torch.dtype:
    # Apple's MPS has no float64.
    return torch.float32 if tensor.device.type == "mps" else torch.float64
