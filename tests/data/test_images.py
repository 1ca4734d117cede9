import hashlib

import pytest
import torch

from vae_mnist.data.images import ImageSet, check_images, hold_out, images_sha256
from vae_mnist.errors import DataError


def image_set(count=10):
    images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    return ImageSet(images=images, labels=torch.arange(count) % 10)


def test_hold_out_keeps_the_last_images_in_file_order():
    train, validation = hold_out(image_set(10), 3)
    assert train["labels"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert validation["labels"].tolist() == [7, 8, 9]
    assert torch.equal(torch.cat([train["images"], validation["images"]]), image_set(10)["images"])


def test_nothing_is_held_out_by_default():
    train, validation = hold_out(image_set(10), 0)
    assert len(train["labels"]) == 10
    assert validation["images"].shape == (0, 1, 2, 2)


@pytest.mark.parametrize("size", [10, 11])
def test_holding_out_everything_is_refused(size):
    with pytest.raises(DataError, match=f"fewer than the 10 training images, got {size}"):
        hold_out(image_set(10), size)


def test_hash_is_sha256_of_shape_pixels_and_labels():
    some = image_set(2)
    by_hand = hashlib.sha256(b"(2, 1, 2, 2)" + bytes(range(8)) + (0).to_bytes(8, "little") + (1).to_bytes(8, "little"))
    assert images_sha256(some) == by_hand.hexdigest()


@pytest.mark.parametrize(
    "wrong",
    [
        ImageSet(images=torch.zeros(2, 1, 2, 2), labels=torch.zeros(2, dtype=torch.int64)),
        ImageSet(images=torch.zeros(2, 2, 2, dtype=torch.uint8), labels=torch.zeros(2, dtype=torch.int64)),
        ImageSet(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(3, dtype=torch.int64)),
        ImageSet(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(2)),
    ],
)
def test_images_of_another_shape_or_type_are_refused(wrong):
    with pytest.raises(DataError, match=r"train_images: expected images \(N, C, H, W\) uint8"):
        check_images(wrong, "train_images")


@pytest.mark.parametrize("names", [(), ("images",), ("images", "label"), ("codes", "images", "labels")])
def test_images_under_other_names_are_refused(names):
    with pytest.raises(DataError, match=f"expected the tensors images and labels, got {', '.join(names) or 'none'}"):
        check_images(dict.fromkeys(names, torch.zeros(2)), "train_images")
