import hashlib

import pytest
import torch

from vae_mnist.data.pixels import PART, as_pixels, binarise, mean_image
from vae_mnist.errors import InputError


def test_8_bit_pixels_are_scaled_and_floats_passed_on():
    assert as_pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]
    assert as_pixels(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("wrong", [torch.tensor([2.0]), torch.tensor([-0.1]), torch.tensor([float("nan")])])
def test_floats_outside_the_unit_interval_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected floats in \[0, 1\], got"):
        as_pixels(wrong)


def test_other_integers_are_refused():
    with pytest.raises(InputError, match=r"expected uint8 in 0..255 or floats in \[0, 1\], got torch.int64"):
        as_pixels(torch.tensor([1]))


def test_binarised_pixels_follow_their_grey_values():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(40_000).view(-1, 1, 1, 3)
    drawn, _ = binarise(images, seed=0)
    assert set(drawn.unique().tolist()) == {0, 255}
    never, fifth, always = (drawn.float() / 255).mean(dim=(0, 1, 2)).tolist()
    assert (never, always) == (0.0, 1.0)
    assert fifth == pytest.approx(0.2, abs=0.01)


def test_a_black_pixel_is_never_drawn_white(monkeypatch):
    """Not even by the smallest of the random numbers."""
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.zeros(shape))
    drawn, _ = binarise(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), seed=0)
    assert not drawn.any()


def test_the_seed_names_the_binarisation():
    images = torch.full((5, 1, 28, 28), 128, dtype=torch.uint8)
    drawn, sha256 = binarise(images, seed=1)
    assert sha256 == hashlib.sha256(drawn.numpy()).hexdigest()
    assert binarise(images, seed=1)[1] == sha256
    assert binarise(images, seed=2)[1] != sha256


@pytest.fixture
def coloured():
    """More images than are worked on at once, in three channels of different brightness."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (PART + 30, 3, 5, 4), generator=generator)
    return (images // torch.tensor([1, 2, 3]).view(3, 1, 1)).to(torch.uint8)


def test_pixels_in_colour_are_scaled_and_averaged_channel_by_channel(coloured):
    assert torch.equal(as_pixels(coloured), coloured.float() / 255)
    expected = coloured.double().mean(0).div(255).float()
    torch.testing.assert_close(mean_image(coloured), expected)
    assert mean_image(coloured).shape == (3, 5, 4)


def test_channels_are_binarised_independently_from_one_stream_of_random_numbers(coloured):
    drawn, sha256 = binarise(coloured, seed=3)
    uniform = torch.rand(coloured.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, (uniform * 255 < coloured).to(torch.uint8) * 255)
    assert sha256 == hashlib.sha256(drawn.numpy()).hexdigest()
