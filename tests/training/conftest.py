"""Images to train on."""

import pytest

from ..helpers.training import first


@pytest.fixture(scope="session")
def splits(sample_images):
    train, test = sample_images
    return {"train": first(train, 450), "test": first(test, 100)}
