"""An .npz file of images and labels as MedMNIST has them, checked before memory is taken for its arrays.

MedMNIST v2 (Yang et al., 2023): train_images, train_labels, val_images, val_labels, test_images, test_labels.
"""

import hashlib
import os
import struct
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..data.images import ImageSet
from ..errors import DataError
from .idx import FIX, MAX_RATIO, PIECE, is_file
from .parts import MAX_BYTES, MAX_CLASSES, OwnImages

REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
OPTIONAL = ("val_images", "val_labels")
# Labels that are all the same pack a thousandfold: MAX_RATIO is for what is larger than this.
SMALL_BYTES = 2**26
MAX_DIRECTORY = 2**20  # bytes; zipfile makes an object of each 46

_ZIP_END = 98  # bytes: zip64 end record 56, its locator 20, end record 22


class _Array(NamedTuple):
    """An array as its header and the archive's directory describe it."""

    member: zipfile.ZipInfo
    start: int  # of the values, after the header
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]


def read_npz(path: Path) -> OwnImages:
    """Read images (N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8 and labels (N,) or (N, 1), integers from 0.

    Nothing is unpickled. Memory grows with the bytes that are there, whatever headers and directory state. Arrays of
    other names are ignored.

    Args:
        path: written by `numpy.savez` or `numpy.savez_compressed`, with the arrays REQUIRED and perhaps both OPTIONAL
            ones, which become the last images for training.

    Returns:
        The images; the names of classes are "0", "1", … up to the largest label, and none if all labels are 0.

    Raises:
        DataError: missing, damaged, too large, or other arrays than these.
    """
    if not is_file(path):
        raise DataError(f"{path}: expected an .npz file, found nothing. Put it there and run it again.")
    try:
        with path.open("rb") as file:
            _check_archive(path, file)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            with zipfile.ZipFile(file) as archive:
                arrays = _read_arrays(path, archive)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # malformed bytes can fail in any way; each becomes one message
        raise DataError(f"{path}: expected a readable .npz file, found: {_brief(error)}. {FIX}") from error
    parts = {name: _part(path, arrays, name) for name in ("train", "val", "test") if f"{name}_images" in arrays}
    training = [parts[name] for name in ("train", "val") if name in parts]
    train = ImageSet(
        images=torch.cat([part["images"] for part in training]), labels=torch.cat([part["labels"] for part in training])
    )
    largest = max(int(part["labels"].max()) for part in (train, parts["test"]))
    classes = tuple(map(str, range(largest + 1))) if largest else ()
    return OwnImages(train, parts["test"], classes, {path.name: {"bytes": path.stat().st_size, "sha256": sha256}})


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse a file that is too large, no whole zip archive, or has a directory that takes much memory."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_BYTES:
        raise DataError(f"{path}: expected a file of at most {MAX_BYTES:,} bytes, found {size:,}. {FIX}")
    file.seek(max(0, size - _ZIP_END))
    end = file.read().rjust(_ZIP_END, b"\0")
    file.seek(0)
    whole = end[76:80] == b"PK\5\6" and end[-2:] == bytes(2)
    length = struct.unpack_from("<L", end, 88)[0]
    if end[56:60] == b"PK\6\7":  # beyond 2 GiB; zipfile must find the record that is looked at here
        whole = whole and struct.unpack_from("<Q", end, 64)[0] == size - _ZIP_END
        length = max(length, struct.unpack_from("<Q", end, 40)[0])
    if not whole:
        raise DataError(
            f"{path}: expected a zip archive as numpy.savez writes it, found {size:,} bytes without its end: cut short "
            f"or of another kind. {FIX}"
        )
    if length > MAX_DIRECTORY:
        raise DataError(
            f"{path}: expected a zip archive with a directory of at most {MAX_DIRECTORY:,} bytes, found {length:,}. "
            f"{FIX}"
        )


def _read_arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    """The arrays by name, once all their headers have been found right."""
    members = {member.filename: member for member in archive.infolist()}
    optional = [name for name in OPTIONAL if any(f"{each}.npy" in members for each in OPTIONAL)]
    names = [*REQUIRED, *optional]
    if missing := [name for name in names if f"{name}.npy" not in members]:
        raise DataError(
            f"{path}: expected the arrays {', '.join(REQUIRED)} (and both of {', '.join(OPTIONAL)}, or neither), found "
            f"no {', '.join(missing)} among {[name.removesuffix('.npy') for name in members][:10]}."
        )
    if len(members) < len(archive.infolist()):
        raise DataError(f"{path}: expected each array once, found a name twice. {FIX}")
    arrays = {name: _header(path, archive, members[f"{name}.npy"], name) for name in names}
    sizes = {(*array.shape[1:], 1)[:3] for name, array in arrays.items() if name.endswith("images")}
    if len(sizes) > 1:
        raise DataError(f"{path}: expected images of one size, found {' and '.join(map(str, sorted(sizes)))}.")
    for part in {name.partition("_")[0] for name in names}:
        images, labels = (arrays[f"{part}_{kind}"].shape[0] for kind in ("images", "labels"))
        if images != labels:
            raise DataError(
                f"{path}: {part}_labels: expected one label for each of the {images:,} images, found {labels:,}."
            )
    total, size = sum(array.member.file_size for array in arrays.values()), path.stat().st_size
    if total > MAX_BYTES:
        raise DataError(f"{path}: expected arrays of at most {MAX_BYTES:,} bytes, the headers say {total:,}.")
    if total > max(SMALL_BYTES, MAX_RATIO * size):
        raise DataError(
            f"{path}: expected to unpack to at most {MAX_RATIO} times its {size:,} bytes, the headers say {total:,}. "
            "If it is genuine, save it again with numpy.savez, which does not pack."
        )
    return {name: _values(path, archive, array, name) for name, array in arrays.items()}


def _header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> _Array:
    """What the header says, if it says a right array."""
    if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DataError(f"{path}: {name}: expected it deflated or stored, found another method or encryption.")
    try:
        with archive.open(member) as file, warnings.catch_warnings(action="ignore"):
            # Other versions may have headers of gigabytes, and are for structured types only.
            if (version := npy.read_magic(file)) != (1, 0):
                raise ValueError(f"version {version}")  # noqa: TRY301
            shape, fortran_order, dtype = npy.read_array_header_1_0(file)
            start = file.tell()
    except Exception as error:
        raise DataError(
            f"{path}: {name}: expected an array of version 1.0 of the .npy format, found: {_brief(error)}. {FIX}"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{path}: {name}: expected numbers, found Python objects, which are not read: they hold code.")
    (_check_images if name.endswith("images") else _check_labels)(f"{path}: {name}", shape, dtype)
    if (expected := start + prod(shape) * dtype.itemsize) != member.file_size:
        raise DataError(
            f"{path}: {name}: expected {expected:,} bytes from its header {shape}, the archive says "
            f"{member.file_size:,}. {FIX}"
        )
    return _Array(member, start, shape, "F" if fortran_order else "C", dtype)


def _check_images(what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype != np.uint8:
        convert = "images.astype(numpy.uint8), if all values are in 0..255"
        if dtype.kind == "f":
            convert = "(255 * images).round().astype(numpy.uint8), if all values are in 0..1"
        raise DataError(f"{what}: expected bytes (uint8), found {dtype!s:.80}. Save {convert}.")
    if len(shape) not in {3, 4} or min(shape) < 1 or shape[3:] not in {(), (1,), (3,)}:
        raise DataError(f"{what}: expected the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), found {shape}.")


def _check_labels(what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iu":
        raise DataError(f"{what}: expected integers, found {dtype!s:.80}. Save labels.astype(numpy.int64).")
    if len(shape) not in {1, 2} or min(shape) < 1 or shape[1:] not in {(), (1,)}:
        raise DataError(f"{what}: expected the shape (N,) or (N, 1), one label for each image, found {shape}.")


def _values(path: Path, archive: zipfile.ZipFile, array: _Array, name: str) -> NDArray[Any]:
    """The values; a member that is shorter than the directory says takes no more memory than it has."""
    content = bytearray()
    with archive.open(array.member) as file:
        while piece := file.read(PIECE):
            content += piece
    if len(content) < array.member.file_size:
        raise DataError(
            f"{path}: {name}: expected {array.member.file_size:,} bytes from its header {array.shape}, found "
            f"{len(content):,}: cut short. {FIX}"
        )
    return np.frombuffer(content, array.dtype, offset=array.start).reshape(array.shape, order=array.order)


def _part(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> ImageSet:
    images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"].ravel()
    wrong = (labels < 0) | (labels >= MAX_CLASSES)
    if wrong.any():
        where = int(wrong.argmax())
        raise DataError(
            f"{path}: {name}_labels: expected labels in 0..{MAX_CLASSES - 1:,}, found {labels[where]} at image {where}."
        )
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)  # noqa: PLR2004
    return ImageSet(
        images=torch.from_numpy(np.ascontiguousarray(images)), labels=torch.from_numpy(labels.astype(np.int64))
    )


def _brief(error: Exception) -> str:
    """The first line: numpy's next ones say how to unpickle."""
    return f"{error!s:.200}".partition("\n")[0].rstrip(".") or type(error).__name__
