"""IDX files, the format of MNIST, checked before a byte of them is used.

Format (LeCun, Cortes, Burges): two zero bytes, type 8 (unsigned byte), number of dimensions; each dimension as a
big-endian 32-bit integer; then the bytes.
"""

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

# 1.3 million digits of 28 x 28. A header or a gzip file that claims more is refused before memory is taken.
MAX_BYTES = 2**30

FIX = "Delete it (or put a good copy in its place) and run kedro run --pipeline=ingest again."


class IdxFile(NamedTuple):
    """An IDX file that has been checked."""

    array: Tensor  # uint8, of the header's dimensions
    sha256: str  # of the unpacked bytes
    size: int  # unpacked bytes


def read_idx(path: Path, dimensions: int) -> IdxFile:
    """Read an IDX file of unsigned bytes, plain or gzip (by its suffix .gz).

    Args:
        path: of the file.
        dimensions: 3 for images, 1 for labels.

    Raises:
        DataError: unreadable, wrong magic number, or another size than the header states.
    """
    header_bytes = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_bytes)
            expected = _expected_bytes(path, header, dimensions)
            # One byte more than expected tells a file that is too long, without unpacking all of it.
            body = file.read(expected - header_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a readable IDX file, found: {error}. {FIX}") from error
    found = len(header) + len(body)
    if found != expected:
        more = "more" if found > expected else f"{found:,}"
        raise DataError(
            f"{path}: expected {expected:,} bytes from its header {_sizes(header)}, found {more}: "
            f"the file is {'too long' if found > expected else 'cut short'}. {FIX}"
        )
    digest = hashlib.sha256(header)
    digest.update(body)
    array = torch.from_numpy(np.frombuffer(bytearray(body), dtype=np.uint8)).view(_sizes(header))
    return IdxFile(array, digest.hexdigest(), expected)


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
