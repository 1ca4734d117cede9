import hashlib

import pytest
import torch

from vae_mnist.data.images import Digits, as_pixels, binarise, check_digits, digits_sha256, hold_out
from vae_mnist.errors import DataError, InputError


def digits(count=10):
    images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    return Digits(images=images, labels=torch.arange(count) % 10)


def test_hold_out_keeps_the_last_digits_in_file_order():
    train, validation = hold_out(digits(10), 3)
    assert train["labels"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert validation["labels"].tolist() == [7, 8, 9]
    assert torch.equal(torch.cat([train["images"], validation["images"]]), digits(10)["images"])


def test_nothing_is_held_out_by_default():
    train, validation = hold_out(digits(10), 0)
    assert len(train["labels"]) == 10
    assert validation["images"].shape == (0, 1, 2, 2)


@pytest.mark.parametrize("size", [10, 11])
def test_holding_out_everything_is_refused(size):
    with pytest.raises(DataError, match=f"fewer than the 10 training digits, got {size}"):
        hold_out(digits(10), size)


def test_hash_is_sha256_of_shape_pixels_and_labels():
    some = digits(2)
    by_hand = hashlib.sha256(b"(2, 1, 2, 2)" + bytes(range(8)) + (0).to_bytes(8, "little") + (1).to_bytes(8, "little"))
    assert digits_sha256(some) == by_hand.hexdigest()


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


def test_the_seed_names_the_binarisation():
    images = torch.full((5, 1, 28, 28), 128, dtype=torch.uint8)
    drawn, sha256 = binarise(images, seed=1)
    assert sha256 == hashlib.sha256(drawn.numpy()).hexdigest()
    assert binarise(images, seed=1)[1] == sha256
    assert binarise(images, seed=2)[1] != sha256


@pytest.mark.parametrize(
    "wrong",
    [
        Digits(images=torch.zeros(2, 1, 2, 2), labels=torch.zeros(2, dtype=torch.int64)),
        Digits(images=torch.zeros(2, 2, 2, dtype=torch.uint8), labels=torch.zeros(2, dtype=torch.int64)),
        Digits(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(3, dtype=torch.int64)),
        Digits(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(2)),
    ],
)
def test_digits_of_another_shape_or_type_are_refused(wrong):
    with pytest.raises(DataError, match=r"train_digits: expected images \(N, 1, H, W\) uint8"):
        check_digits(wrong, "train_digits")


@pytest.mark.parametrize("names", [(), ("images",), ("images", "label"), ("codes", "images", "labels")])
def test_digits_under_other_names_are_refused(names):
    with pytest.raises(DataError, match=f"expected the tensors images and labels, got {', '.join(names) or 'none'}"):
        check_digits(dict.fromkeys(names, torch.zeros(2)), "train_digits")
