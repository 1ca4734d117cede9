"""Digits as tensors: their types, checks, splits and checksums."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from ..errors import DataError


class Digits(TypedDict):
    """Images (N, C, H, W) uint8, 0..255, and labels (N,) int64."""

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
    """Three sources of digits; nothing is read until one is called. Each raises DataError if it is not available."""

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
            f"{what}: expected images (N, C, H, W) uint8 and labels (N,) int64, got {tuple(images.shape)} "
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
