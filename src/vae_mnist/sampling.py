"""Samples, codes, reconstructions and interpolations of a trained model.

The images are pixel means in [0, 1], not Bernoulli draws. The model's mode and torch's global random state
are left as they are.
"""

import torch
from torch import Tensor

from .data.pixels import as_pixels
from .errors import InputError
from .models import VAE

CHUNK = 4096  # decoder outputs at once


@torch.no_grad()
def sample(model: VAE, count: int, *, seed: int = 0) -> Tensor:
    """New images: codes from the model's own prior, decoded. (count, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        count: how many, at least 1.
        seed: the same seed gives the same codes for every model of one prior and latent size.

    Raises:
        InputError: count below 1.
    """
    return decode(model, prior_codes(model, count, seed=seed))


@torch.no_grad()
def prior_codes(model: VAE, count: int, *, seed: int = 0) -> Tensor:
    """Codes drawn from the model's prior, (count, Z), on the CPU.

    Raises:
        InputError: count below 1.
    """
    if count < 1:
        raise InputError(f"count: expected at least 1, got {count}.")
    return model.prior.draw(count, torch.Generator().manual_seed(seed)).cpu()


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:
    """Pixel means of codes, (N, C, H, W) in [0, 1], on the CPU; z is (N, Z)."""
    device = _device(model)
    images = torch.empty(len(z), *model.image_shape)  # filled piece by piece: joining needs twice the memory
    for start in range(0, len(z), CHUNK):
        images[start : start + CHUNK] = model.decode(z[start : start + CHUNK].to(device))
    return images


@torch.no_grad()
def encode(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q(z|x), (N, Z) each, on the CPU.

    Args:
        model: any, on any device.
        images: (N, C, H, W), uint8 or float in [0, 1].

    Raises:
        InputError: another shape, type or range.
    """
    device = _device(model)
    mean, logvar = torch.empty(len(images), model.latent_dim), torch.empty(len(images), model.latent_dim)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        mean[part], logvar[part] = model.encode(as_pixels(images[part].to(device)))
    return mean, logvar


@torch.no_grad()
def reconstruct(model: VAE, images: Tensor) -> Tensor:
    """Images through the model by way of their posterior means, (N, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        images: (N, C, H, W), uint8 or float in [0, 1].
    """
    return decode(model, encode(model, images)[0])


@torch.no_grad()
def interpolate(model: VAE, z1: Tensor, z2: Tensor, steps: int = 8) -> Tensor:
    """Decode the straight line from z1 to z2, both ends included: (steps, C, H, W) in [0, 1], on the CPU.

    Args:
        model: any, on any device.
        z1: (1, Z) or (Z,).
        z2: likewise.
        steps: at least 2.

    Raises:
        InputError: fewer steps, or another shape.
    """
    if steps < 2:  # noqa: PLR2004
        raise InputError(f"interpolate: expected steps >= 2, both ends included, got {steps}.")
    ends = []
    for name, z in (("z1", z1), ("z2", z2)):
        if z.shape not in ((1, model.latent_dim), (model.latent_dim,)):
            raise InputError(
                f"interpolate: expected {name} of shape (1, {model.latent_dim}) or ({model.latent_dim},), "
                f"got {tuple(z.shape)}."
            )
        ends.append(z.reshape(1, -1))
    weight = torch.linspace(0, 1, steps, device=z1.device).unsqueeze(1)  # (S, 1)
    return decode(model, torch.lerp(ends[0].float(), ends[1].float().to(z1.device), weight))


@torch.no_grad()
def traverse(model: VAE, z: Tensor, dimensions: list[int], values: Tensor) -> Tensor:
    """Decode z with one dimension at a time set to each value: (D x V, C, H, W), one dimension after another.

    Args:
        model: any, on any device.
        z: (1, Z), the code to start from.
        dimensions: D of 0..Z-1.
        values: (V,).
    """
    codes = z.cpu().repeat(len(dimensions), len(values), 1)  # (D, V, Z)
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = values
    return decode(model, codes.flatten(0, 1))


def _device(model: VAE) -> torch.device:
    return next(model.parameters()).device
