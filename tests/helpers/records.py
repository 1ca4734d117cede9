"""Data cards that no ingest has written."""

from vae_mnist.storage.records import DataCard

CARD = {
    "name": "images", "title": "some images", "source": "a test", "image_shape": [1, 28, 28],
    "counts": {"train": 450, "validation": 0, "test": 100},
    "class_counts": {"train": [45] * 10, "validation": [0] * 10, "test": [10] * 10},
    "train_pixel_mean": 0.125, "sha256": {"train": "0" * 64, "validation": "1" * 64, "test": "2" * 64},
    "files": {"images.gz": {"bytes": 3000, "sha256": "3" * 64, "known": False}},
    "class_names": [], "factors": {},
}  # fmt: skip


def card(**changes):
    return DataCard(**CARD | changes)
