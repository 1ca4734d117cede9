"""MNIST and the sets of its format, from files or from their mirrors."""

import logging
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import torch

from ..data.images import ImageSet, RawImages
from ..errors import DataError, MissingImagesError
from ..storage.atomic import plain_write_errors
from ..storage.locks import acquire_lock
from .download import LEFTOVERS, fetch
from .idx import FIX, IdxFile, is_file, read_idx
from .published import Published, published

logger = logging.getLogger(__name__)

# Longer than a download can last: two mirrors, four files, FILE_SECONDS each.
LOCK_SECONDS = 1200.0


def read(root: Path, which: Published) -> RawImages:
    """Read the files; download those that are missing.

    Raises:
        MissingImagesError: neither files nor mirrors serve.
        DataError: a file is damaged.
        WriteError: the disk is full, read-only or gone.
    """
    # A damaged file raises here and ends the run: a download would hide it.
    if (raw := read_files(root, which)) is not None:
        return raw
    folder = shown(root / which.folder / "raw")
    absent = f"files: not all four are under {folder}"
    logger.info("%s; trying a download", absent)
    try:
        return download(root, which)
    except MissingImagesError as error:
        raise MissingImagesError(
            f"{which.name} is not available. Tried {absent}; {error} Put the four files (plain or .gz) into {folder}, "
            "name another folder with --params=mnist_root=…, or run again with a network."
        ) from error


def read_files(root: Path, which: Published | None = None) -> RawImages | None:
    """Read and verify the four files; None if one of them is not there at all.

    Args:
        root: of the folders of all sets.
        which: set; MNIST, if not given.

    Raises:
        DataError: a file is damaged or no file, or images and labels do not belong together.
    """
    which = which or published("mnist")
    folder = root / which.folder / "raw"
    found = {name: path for name in which.files if (path := _found(folder, name)) is not None}
    contents = {name: _read(name, path) for name, path in found.items()}
    if len(found) < len(which.files):
        return None
    first, second, third, fourth = which.files
    train, test = _paired(contents, which, first, second), _paired(contents, which, third, fourth)
    if train["images"].shape[1:] != test["images"].shape[1:]:
        raise DataError(
            f"{folder}: expected training and test images of one size, found {tuple(train['images'].shape[2:])} "
            f"and {tuple(test['images'].shape[2:])}. {FIX}"
        )
    files = {
        found[name].name: {
            "bytes": content.size,
            "sha256": content.sha256,
            "known": content.sha256 == sha256 if (sha256 := which.files[name].sha256) else None,
        }
        for name, content in contents.items()
    }
    foreign = any(file["known"] is False for file in files.values())
    name = f"{which.name}-shaped images" if foreign else which.name
    return RawImages(name, f"files under {shown(folder)}", files, train, test, which.class_names)


def download(root: Path, which: Published | None = None) -> RawImages:
    """Download those of the four files that are not there and keep them under `root`.

    Nothing takes its place before all that were missing are complete and verified; what is there stays as it is.

    Args:
        root: of the folders of all sets.
        which: set; MNIST, if not given.

    Raises:
        MissingImagesError: saying what each mirror answered.
        DataError: a file that is there is damaged.
        WriteError: the disk is full, read-only or gone.
    """
    which = which or published("mnist")
    folder = root / which.folder / "raw"
    lock = acquire_lock(root / ".download.lock", LOCK_SECONDS)
    if lock is None:
        raise DataError(
            f"{root / '.download.lock'}: expected another process to end its download within {LOCK_SECONDS:g} s, it "
            "still holds the lock. Stop it and run kedro run --pipelines=ingest again."
        )
    with ExitStack() as held, plain_write_errors(folder):
        held.callback(lock.release)
        # Another process may have fetched them while this one waited.
        if (raw := read_files(root, which)) is not None:
            return raw
        missing = [name for name in which.files if _found(folder, name) is None]
        mirror = fetch(which, missing, root)
    raw = read_files(root, which)
    if raw is None:
        raise DataError(f"{folder}: expected the files that were downloaded, but they are gone. Run it again.")
    source = f"downloaded from {mirror}"
    if len(missing) < len(which.files):
        source = f"{raw.source}, of which {', '.join(missing)} {source}"
    return raw._replace(source=source)


def remove_leftovers(root: Path) -> None:
    """Remove the folders that killed downloads left."""
    if not any(root.glob(LEFTOVERS)):  # then nothing is touched: the folder may be read-only
        return
    try:
        if (lock := acquire_lock(root / ".download.lock", timeout=0)) is not None:  # held while a download goes on
            with ExitStack() as held:
                held.callback(lock.release)
                for folder in root.glob(LEFTOVERS):
                    shutil.rmtree(folder)
            logger.info("removed what a killed download left under %s", shown(root))
    except OSError as error:  # the files next to it can still be read
        logger.warning("what a killed download left stays: %s", error)


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if is_file(path)), None)


def _read(name: str, path: Path) -> IdxFile:
    integers = name.endswith("-int")
    content = read_idx(path, dimensions=3 if "images" in name else 1 + integers, integers=integers)
    # QMNIST says eight things of each image, the class first.
    return content._replace(array=content.array[:, 0]) if integers else content


def _paired(contents: dict[str, IdxFile], which: Published, images_name: str, labels_name: str) -> ImageSet:
    images, labels = contents[images_name].array, contents[labels_name].array.to(torch.int64)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_name}: expected one label for each of the {len(images):,} images in {images_name}, "
            f"the header says {len(labels):,}. {FIX}"
        )
    first, last = which.first_label, which.first_label + len(which.class_names or range(10)) - 1
    if len(wrong := ((labels < first) | (labels > last)).nonzero()):
        where = int(wrong[0])
        raise DataError(
            f"{labels_name}: expected labels in {first}..{last}, found {int(labels[where])} at image {where}. {FIX}"
        )
    if which.transposed:
        images = images.transpose(1, 2).contiguous()
    return ImageSet(images=images.unsqueeze(1), labels=labels - first)


def shown(path: Path) -> str:
    """The shorter of relative and absolute path: a data card need not show where a home folder is."""
    absolute = str(path.resolve())
    return min(os.path.relpath(absolute), absolute, key=len)
