"""Ours, its forward and backward pass compiled."""

from pathlib import Path
from typing import ClassVar

from .ours import Ours


class Compiled(Ours):
    """Our training with `train.compile`."""

    train: ClassVar = {"compile": True}


def build(folder: Path, device: str) -> Compiled:
    """Ready for its first epoch, which compiles."""
    return Compiled(folder, device)
