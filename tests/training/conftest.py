"""Digits to train on."""

import pytest

from ..helpers.training import first


@pytest.fixture(scope="session")
def splits(sample_digits):
    train, test = sample_digits
    return {"train": first(train, 450), "test": first(test, 100)}
