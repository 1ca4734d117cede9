import pytest
import torch

from vae_mnist.plots import Caption

from ..helpers.records import card

CARD = card(
    title="some images: 3 training + 2 test images",
    source="files under here",
    sha256={"train": "a" * 64, "validation": "c" * 64, "test": "b" * 64},
)


@pytest.fixture
def caption():
    return Caption.of("A title", "z16", CARD, {"epoch": 7, "test_loss": 103.456, "beta": 1.0})


@pytest.fixture
def noise():
    """Random images of a shape."""
    return lambda *shape: torch.rand(*shape, generator=torch.Generator().manual_seed(0))
