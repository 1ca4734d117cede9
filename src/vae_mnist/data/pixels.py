"""Pixels: checking, scaling to [0, 1], averaging, binarising."""

import hashlib

import torch
from torch import Tensor

from ..errors import InputError

PART = 250  # images at once where that saves memory: 50 MB of floats for 3 x 128 x 128 pixels


def check_some(images: Tensor) -> None:
    """Refuse an empty set.

    Raises:
        InputError: there are no images.
    """
    if len(images) == 0:
        raise InputError("images: expected at least one, got none.")


def as_pixels(images: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1].

    Args:
        images: uint8 in 0..255, which is scaled, or float in [0, 1], which is passed on.

    Raises:
        InputError: floats outside [0, 1], or another type.
    """
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    if not images.is_floating_point():
        raise InputError(f"images: expected uint8 in 0..255 or floats in [0, 1], got {images.dtype}.")
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            f"images: expected floats in [0, 1], got {images.min().item():.4g} to {images.max().item():.4g}. "
            "Divide 8-bit pixels by 255, or hand them over as uint8."
        )
    return images.float()


def mean_image(images: Tensor) -> Tensor:
    """Pixel means, (C, H, W) float32 in [0, 1] on the CPU.

    Args:
        images: (N, C, H, W) uint8.
    """
    # Integers give the same sum in any order. In parts, because torch would widen all images at once.
    total = sum(part.sum(0, dtype=torch.int64) for part in images.split(PART))
    return torch.as_tensor(total).cpu().float() / (255 * len(images))


def binarise(images: Tensor, seed: int) -> tuple[Tensor, str]:
    """Draw each pixel of each channel once, 1 with its value as probability (Salakhutdinov & Murray 2008).

    Args:
        images: (N, C, H, W) uint8.
        seed: of the draw.

    Returns:
        (N, C, H, W) uint8, each 0 or 255, and the sha256 of the draw, hexadecimal.
    """
    generator = torch.Generator().manual_seed(seed)
    # 255 x uniform < pixel: never for 0, always for 255.
    drawn = torch.empty_like(images)
    for start in range(0, len(images), PART):
        part = images[start : start + PART]
        drawn[start : start + PART] = (torch.rand(part.shape, generator=generator) * 255 < part) * 255
    return drawn, hashlib.sha256(drawn.numpy().data).hexdigest()
