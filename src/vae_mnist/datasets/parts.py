"""What the readers of users' own images return, and how much they read at most."""

from typing import NamedTuple

from ..data.images import ImageSet

# All images of a set: 349,525 of 64 x 64 pixels in colour. More is refused before memory is taken.
MAX_BYTES = 2**32
MAX_CLASSES = 2**16


class OwnImages(NamedTuple):
    """A user's own images as read; none of the parts is empty."""

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]  # names, by label; none for images without classes, whose labels are all 0
    files: dict[str, dict[str, int | str]]  # name -> {"bytes", "sha256"}
