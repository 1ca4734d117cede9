"""Images as tensors: their types, checks, splits and checksums."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from ..errors import DataError


class ImageSet(TypedDict):
    """Images (N, C, H, W) uint8, 0..255, and labels (N,) int64."""

    images: Tensor
    labels: Tensor


class RawImages(NamedTuple):
    """Images as read, with their provenance."""

    name: str  # for captions: "MNIST"
    source: str  # where they were read, in words
    files: dict[str, dict[str, Any]]  # file name -> {"bytes", "sha256", "known"}
    train: ImageSet
    test: ImageSet


class Readers(NamedTuple):
    """Three sources of images; nothing is read until one is called. Each raises DataError if it is not available."""

    files: Callable[[], RawImages | None]  # None: not all four are there
    download: Callable[[], RawImages]
    sample: Callable[[], RawImages]
    folder: str  # where the files belong


def check_images(image_set: ImageSet, what: str) -> None:
    """Refuse images of other names, shape, type or length.

    Raises:
        DataError: naming `what`, what was expected and what came.
    """
    if image_set.keys() != {"images", "labels"}:
        raise DataError(
            f"{what}: expected the tensors images and labels, got {', '.join(sorted(image_set)[:5]) or 'none'}. "
            "Run kedro run --pipelines=ingest again."
        )
    images, labels = image_set["images"], image_set["labels"]
    ok = images.dtype == torch.uint8 and images.ndim == 4 and labels.dtype == torch.int64  # noqa: PLR2004
    if not ok or labels.shape != images.shape[:1]:
        raise DataError(
            f"{what}: expected images (N, C, H, W) uint8 and labels (N,) int64, got {tuple(images.shape)} "
            f"{images.dtype} and {tuple(labels.shape)} {labels.dtype}. Run kedro run --pipelines=ingest again."
        )


def hold_out(image_set: ImageSet, size: int) -> tuple[ImageSet, ImageSet]:
    """Keep the last `size` training images for validation.

    Returns:
        (train, validation), each in file order.

    Raises:
        DataError: no training image would be left.
    """
    count = len(image_set["labels"])
    if size >= count:
        raise DataError(
            f"ingest.validation_size: expected fewer than the {count:,} training images, "
            f"got {size:,}: none would be left."
        )
    keep = count - size
    # clone: a slice would drag the whole storage into its file
    train = ImageSet(images=image_set["images"][:keep].clone(), labels=image_set["labels"][:keep].clone())
    return train, ImageSet(images=image_set["images"][keep:].clone(), labels=image_set["labels"][keep:].clone())


def images_sha256(image_set: ImageSet) -> str:
    """Identify images by shape, pixels and labels, in their order; hexadecimal."""
    digest = hashlib.sha256(str(tuple(image_set["images"].shape)).encode())
    for tensor in (image_set["images"], image_set["labels"]):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
