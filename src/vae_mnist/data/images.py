"""Images as tensors: their types, checks, splits and checksums."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import torch
from torch import Tensor

from ..config.parameters import IngestConfig
from ..errors import DataError


class ImageSet(TypedDict):
    """Images (N, C, H, W) uint8, 0..255, labels (N,) int64, and where they are known, factors (N, K) int64."""

    images: Tensor
    labels: Tensor  # all 0 where there are no classes
    factors: NotRequired[Tensor]  # of variation, the value of each counted from 0


class RawImages(NamedTuple):
    """Images as read, with their provenance."""

    name: str  # for captions: "MNIST"
    source: str  # where they were read, in words
    files: dict[str, dict[str, Any]]  # file name -> {"bytes", "sha256", "known"}
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...] = ()  # empty: their numbers
    factors: dict[str, int] | None = None  # of variation: name -> number of values; None: not known


Readers = Mapping[str, Callable[[IngestConfig], RawImages]]  # source -> what reads it, or raises DataError


def check_images(image_set: ImageSet, what: str) -> None:
    """Refuse images of other names, shape, type or length.

    Raises:
        DataError: naming `what`, what was expected and what came.
    """
    if image_set.keys() - {"factors"} != {"images", "labels"}:
        raise DataError(
            f"{what}: expected the tensors images and labels, got {', '.join(sorted(image_set)[:5]) or 'none'}. "
            "Run kedro run --pipelines=ingest again."
        )
    images, labels = image_set["images"], image_set["labels"]
    ok = images.dtype == torch.uint8 and images.ndim == 4 and labels.dtype == torch.int64  # noqa: PLR2004
    factors = image_set.get("factors", labels.unsqueeze(1))
    ok = ok and factors.dtype == torch.int64 and factors.shape[:1] == images.shape[:1] and factors.ndim == 2  # noqa: PLR2004
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
    return cut(image_set, slice(keep)), cut(image_set, slice(keep, count))


def cut(image_set: ImageSet, rows: slice | Tensor) -> ImageSet:
    """Some of the images, with what belongs to them, in memory of their own."""
    # clone: a slice would drag the whole storage into its file
    tensors = cast("dict[str, Tensor]", image_set)
    return cast("ImageSet", {name: tensor[rows].clone() for name, tensor in tensors.items()})


def images_sha256(image_set: ImageSet) -> str:
    """Identify images by shape, pixels, labels and factors, in their order; hexadecimal."""
    digest = hashlib.sha256(str(tuple(image_set["images"].shape)).encode())
    factors = (image_set["factors"],) if "factors" in image_set else ()
    for tensor in (image_set["images"], image_set["labels"], *factors):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
