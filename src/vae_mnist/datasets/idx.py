"""IDX files, the format of MNIST, checked before a byte of them is used.

Format (LeCun, Cortes, Burges): two zero bytes, type 8 (unsigned byte), number of dimensions; each dimension as a
big-endian 32-bit integer; then the bytes.
"""

import errno
import gzip
import hashlib
import stat
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

# 1.3 million digits of 28 x 28. A header that claims more is refused before memory is taken.
MAX_BYTES = 2**30
# Of a gzip file itself, seven times the largest published one: it can be long and hold nothing, which takes time.
MAX_PACKED_BYTES = 2**26
# The published files unpack to five times their size; a gzip file can claim a thousand times without lying.
MAX_RATIO = 200
# Bytes in flight while a file is read.
PIECE = 2**20

FIX = "Delete it (or put a good copy in its place) and run kedro run --pipelines=ingest again."
UNPACK = "If it is genuine, unpack it yourself and put the unpacked file in its place."

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class IdxFile(NamedTuple):
    """An IDX file that has been checked."""

    array: Tensor  # uint8, of the header's dimensions
    sha256: str  # of the unpacked bytes
    size: int  # unpacked bytes


def file_size(path: Path) -> int | None:
    """The size of a regular file, links followed; None if nothing lies there.

    Raises:
        DataError: something else lies there, which must be neither read (a FIFO never ends) nor passed over.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        broken = [name for name in (path, *path.parents) if name.is_symlink() and not name.exists()]
        if not broken:
            return None
        found = f"that {broken[0]} is a symbolic link that leads nowhere"
    except OSError as error:
        circle = error.errno == errno.ELOOP
        found = "a symbolic link that leads in a circle" if circle else f"[Errno {error.errno}] {error.strerror}"
    else:
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        found = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
    raise DataError(f"{path}: expected a regular file, found {found}. {FIX}")


def read_idx(path: Path, dimensions: int) -> IdxFile:
    """Read an IDX file of unsigned bytes, plain or gzip (by its suffix .gz).

    Memory taken: the bytes that are there, once. A file of another size than its header states is refused before
    that, and so is a gzip file that is out of proportion.

    Args:
        path: of the file.
        dimensions: 3 for images, 1 for labels.

    Raises:
        DataError: no regular file, unreadable, wrong magic number, or another size than the header states.
    """
    size = file_size(path)
    if size is None:
        raise DataError(f"{path}: expected a regular file, found nothing. {FIX}")
    packed = path.suffix == ".gz"
    if packed and size > MAX_PACKED_BYTES:
        raise DataError(f"{path}: expected a gzip file of at most {MAX_PACKED_BYTES:,} bytes, found {size:,}. {UNPACK}")
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            expected = _expected_bytes(path, header, dimensions)
            if packed and expected > MAX_RATIO * size:
                raise DataError(
                    f"{path}: expected to unpack to at most {MAX_RATIO} times its {size:,} bytes, "
                    f"the header {_sizes(header)} says {expected:,}. {UNPACK}"
                )
            if not packed and size != expected:
                raise _wrong_length(path, header, expected, size)
            digest, found = hashlib.sha256(header), len(header)
            body, at = np.empty(expected - found, dtype=np.uint8), 0
            while piece := file.read(min(PIECE, len(body) - at)):
                digest.update(piece)
                body[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
                at += len(piece)
            # One byte more tells a file that is too long, without unpacking all of it.
            found += at + len(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a readable IDX file, found: {error}. {FIX}") from error
    if found != expected:
        raise _wrong_length(path, header, expected, found)
    return IdxFile(torch.from_numpy(body).view(_sizes(header)), digest.hexdigest(), expected)


def _wrong_length(path: Path, header: bytes, expected: int, found: int) -> DataError:
    more = found > expected
    return DataError(
        f"{path}: expected {expected:,} bytes from its header {_sizes(header)}, found "
        f"{'more' if more else f'{found:,}'}: the file is {'too long' if more else 'cut short'}. {FIX}"
    )


def _expected_bytes(path: Path, header: bytes, dimensions: int) -> int:
    magic = bytes([0, 0, 8, dimensions])
    if len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"{path}: expected a header of {4 + 4 * dimensions} bytes, found {len(header)}: cut short. {FIX}"
        )
    if header[:4] != magic:
        raise DataError(
            f"{path}: expected magic number 0x{magic.hex()} ({dimensions} dimensions of unsigned bytes), "
            f"found 0x{header[:4].hex()}: not an IDX file of this kind. {FIX}"
        )
    sizes = _sizes(header)
    if min(sizes) < 1:
        raise DataError(f"{path}: expected dimensions of at least 1, the header says {sizes}. {FIX}")
    total = len(header) + prod(sizes)
    if total > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES:,} bytes, the header {sizes} says {total:,}. {FIX}")
    return total


def _sizes(header: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, len(header), 4))
