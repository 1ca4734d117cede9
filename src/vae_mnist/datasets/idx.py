"""IDX files, the format of MNIST, checked before a byte of them is used.

Format (LeCun, Cortes, Burges): two zero bytes, type (8: unsigned bytes, 12: 32-bit integers), number of dimensions;
each dimension as a big-endian 32-bit integer; then the bytes, of integers the most significant first.
"""

import gzip
import hashlib
import stat
import struct
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

# 1.3 million images of 28 x 28. A header that claims more is refused before memory is taken.
MAX_BYTES = 2**30
# Of a gzip file itself, seven times the largest published one: it can be long and hold nothing, which takes time.
MAX_PACKED_BYTES = 2**26
# The published files unpack to five times their size; a gzip file can claim a thousand times without lying.
MAX_RATIO = 200
INTEGER_BYTES = 4
# Bytes in flight while a file is read.
PIECE = 2**20

FIX = "Delete it (or put a good copy in its place) and run kedro run --pipelines=ingest again."
UNPACK = "If it is genuine, unpack it yourself and put the unpacked file in its place."

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class IdxFile(NamedTuple):
    """An IDX file that has been checked."""

    array: Tensor  # uint8, or of integers int64, of the header's dimensions
    sha256: str  # of the unpacked bytes
    size: int  # unpacked bytes


def is_file(path: Path) -> bool:
    """Whether there is a regular file; links are followed. False if there is nothing.

    Raises:
        DataError: there is something else, which must be neither read (a FIFO never ends) nor ignored.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        broken = [name for name in (path, *path.parents) if name.is_symlink() and not name.exists()]
        if not broken:
            return False
        found = f"that {broken[0]} is a symbolic link that leads nowhere"
    except OSError as error:
        found = f"[Errno {error.errno}] {error.strerror}"
    else:
        if stat.S_ISREG(mode):
            return True
        found = _KINDS.get(stat.S_IFMT(mode), "a device")
    raise DataError(f"{path}: expected a regular file, found {found}. {FIX}")


def read_idx(path: Path, dimensions: int, *, integers: bool = False) -> IdxFile:
    """Read an IDX file of unsigned bytes or 32-bit integers, plain or gzip (by its suffix .gz).

    Memory grows with the bytes that are there, whatever the header states. A gzip file that is out of proportion is
    refused before it is unpacked.

    Args:
        path: of a regular file, see `is_file`.
        dimensions: 3 for images, 1 for labels.
        integers: whether the file holds 32-bit integers, as the labels of QMNIST are.

    Raises:
        DataError: unreadable, wrong magic number, or another size than the header states.
    """
    packed = path.suffix == ".gz"
    try:
        size = path.stat().st_size
        if packed and size > MAX_PACKED_BYTES:
            raise DataError(
                f"{path}: expected a gzip file of at most {MAX_PACKED_BYTES:,} bytes, found {size:,}. {UNPACK}"
            )
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            sizes = _read_sizes(path, header, dimensions, integers)
            expected = len(header) + prod(sizes) * (INTEGER_BYTES if integers else 1)
            if packed and expected > MAX_RATIO * size:
                raise DataError(
                    f"{path}: expected to unpack to at most {MAX_RATIO} times its {size:,} bytes, "
                    f"the header {sizes} says {expected:,}. {UNPACK}"
                )
            body = bytearray()
            # One byte more than expected shows that a file is too long, without reading all of it.
            while piece := file.read(min(PIECE, expected + 1 - len(header) - len(body))):
                body += piece
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a readable IDX file, found: {error}. {FIX}") from error
    found = len(header) + len(body)
    if found != expected:
        wrong = "more: the file is too long" if found > expected else f"{found:,}: the file is cut short"
        raise DataError(f"{path}: expected {expected:,} bytes from its header {sizes}, found {wrong}. {FIX}")
    digest = hashlib.sha256(header)
    digest.update(body)
    array = torch.frombuffer(body, dtype=torch.uint8)
    if integers:
        array = torch.from_numpy(np.frombuffer(body, dtype=">i4").astype(np.int64))
    return IdxFile(array.view(sizes), digest.hexdigest(), expected)


def _read_sizes(path: Path, header: bytes, dimensions: int, integers: bool) -> tuple[int, ...]:
    """The dimensions that a header states, once it is known to be one."""
    magic, numbers = bytes([0, 0, 12 if integers else 8, dimensions]), "integers" if integers else "unsigned bytes"
    if len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"{path}: expected a header of {4 + 4 * dimensions} bytes, found {len(header)}: cut short. {FIX}"
        )
    if header[:4] != magic:
        raise DataError(
            f"{path}: expected magic number 0x{magic.hex()} ({dimensions} dimensions of {numbers}), "
            f"found 0x{header[:4].hex()}: not an IDX file of this kind. {FIX}"
        )
    sizes = struct.unpack(f">{dimensions}I", header[4:])
    if min(sizes) < 1:
        raise DataError(f"{path}: expected dimensions of at least 1, the header says {sizes}. {FIX}")
    total = len(header) + prod(sizes) * (INTEGER_BYTES if integers else 1)
    if total > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES:,} bytes, the header {sizes} says {total:,}. {FIX}")
    return sizes
