"""Digits as arrays: what they are, where they came from, how they are split, scaled, binarised and identified."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from ..errors import DataError, InputError


class Digits(TypedDict):
    """Images (N, 1, H, W) uint8, 0..255, and labels (N,) int64."""

    images: Tensor
    labels: Tensor


class RawDigits(NamedTuple):
    """Digits as read, with their provenance."""

    name: str  # for captions: "MNIST"
    source: str  # where they were read, in words
    files: dict[str, dict[str, Any]]  # file name -> {"bytes", "sha256", "known"}
    train: Digits
    test: Digits


class Readers(NamedTuple):
    """Three ways to the digits; nothing is read before one is called. Each raises DataError where it cannot serve."""

    files: Callable[[], RawDigits | None]  # None: not all four are there
    download: Callable[[], RawDigits]
    sample: Callable[[], RawDigits]
    folder: str  # where the files belong


def check_digits(digits: Digits, what: str) -> None:
    """Refuse digits of other names, shape, type or length.

    Raises:
        DataError: naming `what`, what was expected and what came.
    """
    if digits.keys() != {"images", "labels"}:
        raise DataError(
            f"{what}: expected the tensors images and labels, got {', '.join(sorted(digits)[:5]) or 'none'}. "
            "Run kedro run --pipelines=ingest again."
        )
    images, labels = digits["images"], digits["labels"]
    ok = images.dtype == torch.uint8 and images.ndim == 4 and labels.dtype == torch.int64  # noqa: PLR2004
    if not ok or labels.shape != images.shape[:1]:
        raise DataError(
            f"{what}: expected images (N, 1, H, W) uint8 and labels (N,) int64, got {tuple(images.shape)} "
            f"{images.dtype} and {tuple(labels.shape)} {labels.dtype}. Run kedro run --pipelines=ingest again."
        )


def hold_out(digits: Digits, size: int) -> tuple[Digits, Digits]:
    """Keep the last `size` training digits for validation.

    Returns:
        (train, validation), each in file order.

    Raises:
        DataError: no training digit would be left.
    """
    count = len(digits["labels"])
    if size >= count:
        raise DataError(
            f"ingest.validation_size: expected fewer than the {count:,} training digits, "
            f"got {size:,}: none would be left."
        )
    keep = count - size
    # clone: a slice would drag the whole storage into its file
    train = Digits(images=digits["images"][:keep].clone(), labels=digits["labels"][:keep].clone())
    return train, Digits(images=digits["images"][keep:].clone(), labels=digits["labels"][keep:].clone())


def digits_sha256(digits: Digits) -> str:
    """Identify digits by shape, pixels and labels, in their order; hexadecimal."""
    digest = hashlib.sha256(str(tuple(digits["images"].shape)).encode())
    for tensor in (digits["images"], digits["labels"]):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


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
    # Whole numbers: the same sum in any order. In parts, for torch would widen all images at once.
    total = sum(part.sum(0, dtype=torch.int64) for part in images.split(1000))
    return torch.as_tensor(total).cpu().float() / (255 * len(images))


def binarise(images: Tensor, seed: int) -> tuple[Tensor, str]:
    """Draw each pixel once, 1 with its grey value as probability (Salakhutdinov & Murray 2008).

    Args:
        images: (N, 1, H, W) uint8.
        seed: of the draw.

    Returns:
        (N, 1, H, W) uint8, each 0 or 255, and the sha256 of the draw, hexadecimal.
    """
    generator = torch.Generator().manual_seed(seed)
    # 255 x uniform < pixel: never for 0, always for 255.
    drawn = torch.empty_like(images)
    for start in range(0, len(images), 10_000):
        part = images[start : start + 10_000]
        drawn[start : start + 10_000] = (torch.rand(part.shape, generator=generator) * 255 < part) * 255
    return drawn, hashlib.sha256(drawn.numpy().data).hexdigest()
