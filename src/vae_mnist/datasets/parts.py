"""What the readers of users' own images return, and how much they read at most."""

from typing import NamedTuple

from torch import Tensor

# All images of a set: 349,525 of 64 x 64 pixels in colour. More is refused before memory is taken.
MAX_BYTES = 2**32
MAX_CLASSES = 2**16


class Part(NamedTuple):
    """Images for training or for testing."""

    images: Tensor  # (N, C, H, W) uint8, 0..255, C = 1 or 3
    labels: Tensor  # (N,) int64, positions in OwnImages.classes


class OwnImages(NamedTuple):
    """A user's own images as read; none of the parts is empty."""

    train: Part
    test: Part
    classes: tuple[str, ...]  # names; none for images without classes, whose labels are all 0
    files: dict[str, dict[str, int | str]]  # name -> {"bytes", "sha256"}
