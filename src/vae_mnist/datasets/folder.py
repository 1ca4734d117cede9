"""A folder of pictures in PNG, JPEG or WebP, with or without a subfolder for each class."""

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..data.images import ImageSet
from ..errors import DataError
from .parts import MAX_BYTES, MAX_CLASSES, OwnImages

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LAYOUTS = (
    "expected pictures (.png, .jpg, .jpeg, .webp), or a folder of pictures for each class, or the two folders train "
    "and test, each with pictures or with a folder for each class"
)
NAMED = 10  # so many of a list are named in a message

Classes = dict[str, list[str]]  # name -> paths in the folder, with /; {"": …} for pictures without classes


class _Picture(NamedTuple):
    path: str
    part: str  # train or test
    label: int


def read_folder(
    folder: Path,
    *,
    size: int,
    channels: int,
    test_share: float,
    seed: int,
    damaged: Literal["refuse", "skip"],
    workers: int,
) -> OwnImages:
    r"""Decode a folder of pictures to squares of one size, see `decode.decode`.

    The folder holds pictures, or a folder of pictures for each class, or the folders train and test that hold one or
    the other. Without train and test, pictures for testing are drawn from each class; which ones depends on the seed
    and their paths in the folder, not on other classes. Hidden files and files of other kinds are ignored. Symbolic
    links are followed within the folder.

    Args:
        folder: with at least one picture for training and one for testing.
        size: side of the squares in pixels, at least 1.
        channels: 1 (grey) or 3 (RGB).
        test_share: of each class, in (0, 1), rounded to at least one picture and to not all of them.
        seed: draws the pictures for testing and the order of both parts, in which classes are mixed.
        damaged: whether damaged pictures are refused, or skipped with a warning; the split is the same with them.
        workers: processes that decode, at least 1; the result does not depend on it.

    Returns:
        The images; classes in alphabetical order. The checksum is that of what sha256sum prints for the pictures:
        find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

    Raises:
        DataError: another layout, damaged pictures, too many or too few, or a link out of the folder.
    """
    from .decode import decode_all  # Pillow

    found = _find(folder, test_share, seed)
    labels = {name: label for label, name in enumerate(sorted(found["train"]))}
    pictures = [
        _Picture(path, part, labels[name]) for part in found for name, paths in found[part].items() for path in paths
    ]
    pictures.sort(key=lambda picture: (picture.part, _rank(picture.path, seed)))
    _check_counts(folder, pictures, len(labels), size * size * channels)

    counts = Counter(picture.part for picture in pictures)
    images = {part: np.empty((counts[part], channels, size, size), np.uint8) for part in counts}
    used, problems = {}, {}
    paths = [os.fspath(folder / picture.path) for picture in pictures]
    with closing(decode_all(paths, size=size, channels=channels, workers=workers)) as decoded:
        bar = tqdm(decoded, desc="pictures", total=len(paths), unit="picture", leave=False, disable=None)
        for picture, row, each in zip(pictures, chain.from_iterable(images.values()), bar, strict=True):
            if each.problem:
                problems[picture.path] = each.problem
            else:
                row[:] = np.frombuffer(each.pixels, np.uint8).reshape(size, size, channels).transpose(2, 0, 1)
                used[picture] = each._replace(pixels=b"")
    if problems:
        _report(folder, problems, len(pictures), damaged)
        _check_counts(folder, list(used), len(labels), size * size * channels)

    parts = {}
    for part, array in images.items():
        kept = np.array([picture in used for picture in pictures if picture.part == part])
        parts[part] = ImageSet(
            images=torch.from_numpy(array if kept.all() else array[kept]),
            labels=torch.tensor([picture.label for picture in used if picture.part == part]),
        )
    digest = hashlib.sha256()
    for path, each in sorted((os.fsencode(picture.path), each) for picture, each in used.items()):
        digest.update(b"%b  %b\n" % (each.sha256.encode(), path))
    facts: dict[str, int | str] = {"bytes": sum(each.size for each in used.values()), "sha256": digest.hexdigest()}
    return OwnImages(**parts, classes=tuple(name for name in labels if name), files={f"{len(used):,} pictures": facts})


def _find(folder: Path, test_share: float, seed: int) -> dict[str, Classes]:
    """All pictures: {"train": …, "test": …}."""
    ignored: Counter[str] = Counter()
    pictures, folders = _listed(folder, "", ignored)
    split = {"train", "test"} & {*folders}
    # One of the two next to other folders is a class.
    if split and (len(split) == 2 or len(folders) == 1):  # noqa: PLR2004
        if pictures or len(folders) != 2:  # noqa: PLR2004
            raise DataError(f"{folder}: {LAYOUTS}; found {_some([*folders, *pictures])}.")
        found = {part: _classes(folder, part, *_listed(folder, part, ignored), ignored) for part in ("train", "test")}
        if extra := found["test"].keys() - found["train"].keys():
            names = "pictures without a folder" if "" in extra else _some(sorted(extra))
            raise DataError(f"{folder}: expected in test folders for classes that train has too, found {names}.")
    else:
        found = _split(_classes(folder, "", pictures, folders, ignored), test_share, seed)
    if ignored:
        kinds = ", ".join(f"{kind!r}: {count:,}" for kind, count in ignored.most_common(NAMED))
        logger.info("%s: ignored files that are hidden or no PNG, JPEG or WebP (%s)", folder, kinds)
    return found


def _classes(folder: Path, inside: str, pictures: list[str], folders: list[str], ignored: Counter[str]) -> Classes:
    """The pictures of `inside`, of which `pictures` and `folders` are the content, or of its folders."""
    if bool(pictures) == bool(folders):
        both = f"pictures ({_some(pictures)}) as well as folders ({_some(folders)})" if folders else "none of these"
        raise DataError(f"{folder}: {LAYOUTS}; found {both} in {inside or '.'!r}.")
    if pictures:
        return {"": pictures}
    found = {}
    for path in folders:
        name = PurePosixPath(path).name
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
            raise DataError(f"{folder}: expected names of classes without control characters in UTF-8, found {name!r}.")
        found[name], deeper = _listed(folder, path, ignored)
        if deeper:
            raise DataError(f"{folder}: {LAYOUTS}; found folders in the class {path!r}: {_some(deeper)}.")
        if not found[name]:
            raise DataError(f"{folder}: expected pictures in each folder, found none in {path!r}. Delete it.")
    return found


def _listed(folder: Path, inside: str, ignored: Counter[str]) -> tuple[list[str], list[str]]:
    """The sorted paths in `folder` of pictures and of folders that lie in one of its folders; nothing is opened."""
    pictures, folders = [], []
    try:
        with os.scandir(folder / inside) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path, suffix = (PurePosixPath(inside) / entry.name).as_posix(), Path(entry.name).suffix.lower()
                if entry.name.startswith("."):
                    ignored["hidden"] += 1
                elif entry.is_symlink() and not _leads_into(folder, entry.path):
                    raise DataError(
                        f"{folder}: expected links to what is in it, found that {path!r} leads out of it or nowhere. "
                        "Put a copy in its place, or delete it."
                    )
                elif entry.is_dir():
                    folders.append(path)
                elif suffix not in SUFFIXES:
                    ignored[suffix] += 1
                elif entry.is_file():
                    pictures.append(path)
                else:  # reading a FIFO would never end
                    raise DataError(f"{folder}: expected regular files, found that {path!r} is none. Delete it.")
    except OSError as error:
        raise DataError(f"{folder}: expected a folder that can be read, found {inside!r}: {error.strerror}.") from error
    return pictures, folders


def _leads_into(folder: Path, link: str) -> bool:
    target = Path(os.path.realpath(link))
    return target.exists() and target.is_relative_to(os.path.realpath(folder))


def _split(classes: Classes, test_share: float, seed: int) -> dict[str, Classes]:
    found: dict[str, Classes] = {"train": {}, "test": {}}
    for name, paths in classes.items():
        count = min(max(round(test_share * len(paths)), 1), max(len(paths) - 1, 0))
        drawn = sorted(paths, key=lambda path: _rank(path, seed))
        found["test"][name], found["train"][name] = drawn[:count], drawn[count:]
    return found


def _rank(path: str, seed: int) -> bytes:
    """Sorting by it shuffles, whatever other pictures there are."""
    return hashlib.sha256(b"%d/%b" % (seed, os.fsencode(path))).digest()


def _check_counts(folder: Path, pictures: Iterable[_Picture], classes: int, image_bytes: int) -> None:
    counts = Counter(picture.part for picture in pictures)
    if min(counts["train"], counts["test"]) == 0:
        raise DataError(
            f"{folder}: expected at least one picture for training and one for testing, found {counts['train']:,} and "
            f"{counts['test']:,}. Of a class with a single picture, none is for testing."
        )
    if (needed := counts.total() * image_bytes) > MAX_BYTES:
        raise DataError(
            f"{folder}: expected images of at most {MAX_BYTES:,} bytes, found {counts.total():,} pictures, which take "
            f"{needed:,}. Choose a smaller size, or fewer pictures."
        )
    if classes > MAX_CLASSES:
        raise DataError(f"{folder}: expected at most {MAX_CLASSES:,} classes, found {classes:,} folders.")


def _report(folder: Path, problems: dict[str, str], total: int, damaged: Literal["refuse", "skip"]) -> None:
    """Warn of the pictures that are damaged, or refuse them.

    Raises:
        DataError: they are to be refused.
    """
    listed = [f"{path!r} ({problem})" for path, problem in sorted(problems.items())[:NAMED]]
    more = f" and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
    found = f"found {len(problems):,} of {total:,} that cannot be used: {', '.join(listed)}{more}"
    if damaged == "refuse":
        raise DataError(f"{folder}: expected undamaged pictures, {found}. Replace, delete or skip them.")
    logger.warning("%s: skipped damaged pictures: %s", folder, found)


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:NAMED])) + (", …" if len(names) > NAMED else "")
