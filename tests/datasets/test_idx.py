"""IDX files: right ones are read, all others refused with what was expected and found, in little time and memory."""

import gzip
import hashlib
import random
import re
import struct
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from math import prod

import pytest

from vae_mnist.datasets.idx import MAX_BYTES, MAX_PACKED_BYTES, read_idx
from vae_mnist.errors import DataError

from ..helpers.idx import idx_bytes

IMAGES = idx_bytes((2, 3, 4), bytes(range(24)))
LABELS = idx_bytes((5,), bytes([0, 1, 2, 3, 9]))
BOTH = pytest.mark.parametrize(("content", "dimensions"), [(IMAGES, 3), (LABELS, 1)])
PLAIN_OR_PACKED = pytest.mark.parametrize("packed", [False, True])
MUTATIONS = 3_000
MEMORY_BYTES = 8 * 2**20  # beyond the largest file of these tests, 0.5 MB


def written(tmp_path, content, packed=False):
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def refused(path, dimensions=3):
    """The message of the DataError that reading ends in."""
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: expected .*(found|the header .*says)") as caught:
        read_idx(path, dimensions)
    return str(caught.value)


@contextmanager
def little_memory():
    """Fail if Python and NumPy had more than MEMORY_BYTES at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= MEMORY_BYTES
    finally:
        tracemalloc.stop()


@PLAIN_OR_PACKED
@BOTH
def test_a_file_is_read_in_the_headers_dimensions(tmp_path, content, dimensions, packed):
    file = read_idx(written(tmp_path, content, packed), dimensions)
    assert file.array.shape == ((2, 3, 4) if dimensions == 3 else (5,))
    assert file.array.numpy().tobytes() == content[4 + 4 * dimensions :]
    assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))


@PLAIN_OR_PACKED
@BOTH
def test_a_file_cut_at_any_byte_is_refused(tmp_path, content, dimensions, packed):
    path = written(tmp_path, content, packed)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        message = refused(path, dimensions)
        assert packed or "cut short" in message


TOO_LONG = r"expected 40 bytes from its header \(2, 3, 4\), found more: the file is too long"
NO_MAGIC = "expected magic number 0x00000803 .* found 0x"


@PLAIN_OR_PACKED
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES + b"x", TOO_LONG),
        (IMAGES + bytes(1000), TOO_LONG),
        (LABELS + bytes(20), NO_MAGIC),
        (idx_bytes((2, 3, 4), b"", magic=b"\0\0\x0d"), NO_MAGIC),
        (gzip.compress(IMAGES, mtime=0), NO_MAGIC),
        (b"<html>" + bytes(40), NO_MAGIC),
        (idx_bytes((0, 28, 28), b""), r"dimensions of at least 1, the header says \(0, 28, 28\)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message, packed):
    assert re.search(f"{message}.* Delete it", refused(written(tmp_path, content, packed)))


def test_a_plain_file_that_is_called_packed_is_refused(tmp_path):
    path = written(tmp_path, b"", packed=True)
    path.write_bytes(IMAGES)
    assert "Not a gzipped file" in refused(path)


@pytest.mark.parametrize(
    ("sizes", "zeros", "packed", "message"),
    [
        ((50, 1024, 1024), 50 * 2**20, True, r"at most 200 times its \S+ bytes, .* says 52,428,816\. If .* unpack"),
        ((1, 28, 28), 50 * 2**20, True, r"expected 800 bytes from its header \(1, 28, 28\), found more"),
        ((2**20, 2**10, 1), 50 * 2**20, True, f"expected at most {MAX_BYTES:,} bytes, .* says 1,073,741,840"),
        ((2**32 - 1,) * 3, 0, False, f"expected at most {MAX_BYTES:,} bytes"),
        ((2**18, 2**10, 3), 5000, False, "expected 805,306,384 bytes .* found 5,016: the file is cut short"),
    ],
)  # fmt: skip
def test_bombs_and_false_claims_take_neither_memory_nor_time(tmp_path, sizes, zeros, packed, message):
    path = written(tmp_path, idx_bytes(sizes, bytes(zeros)), packed)
    with little_memory():
        started = time.monotonic()
        assert re.search(message, refused(path))
        assert time.monotonic() - started < 0.2


def test_images_that_pack_well_are_read(tmp_path):
    blank = idx_bytes((100, 28, 28), bytes(78_400))
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(blank) + bytes(350))
    assert 150 < len(blank) / path.stat().st_size < 200
    assert read_idx(path, 3).array.sum() == 0


def test_a_gzip_file_that_is_too_large_itself_is_refused_before_it_is_read(tmp_path):
    path = written(tmp_path, IMAGES, packed=True)
    with path.open("r+b") as file:
        file.truncate(MAX_PACKED_BYTES + 1)
    started = time.monotonic()
    assert f"expected a gzip file of at most {MAX_PACKED_BYTES:,} bytes, found 67,108,865" in refused(path)
    assert time.monotonic() - started < 0.2


def damaged(content, draw):
    """The bytes with one piece replaced by another: anywhere, in the header's fields, or at the end."""
    at = draw.choice([0, 4, 8, 12, len(content), draw.randrange(len(content))])
    number = draw.choice([0, 1, 9, 28, 2**16, 2**31, 2**32 - 1, draw.randrange(2**32)])
    pieces = [
        b"",
        b"\0",
        draw.randbytes(1),
        draw.randbytes(30),
        struct.pack(">I", number),
        gzip.compress(b"x", mtime=0),
    ]
    piece = draw.choice(pieces)
    taken = draw.choice([len(piece), len(piece), 0, 1, 4, 28, len(content)])
    return content[:at] + piece + content[at + taken :]


def meaning(content, dimensions):
    """(sizes, body) of a right plain IDX file, or None; written a second time, from the format alone."""
    magic, *sizes = struct.unpack_from(f">{1 + dimensions}I", content.ljust(16, b"\0"))
    body = content[4 + 4 * dimensions :]
    right = magic == 0x800 + dimensions and body and len(body) == prod(sizes)
    return (tuple(sizes), body) if right else None


def unpacked(content):
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


@pytest.mark.slow
def test_three_thousand_mutated_files_end_in_an_error_that_explains_or_in_right_data(tmp_path, sample_images):
    images, labels = (sample_images[0][name][:5].byte().numpy().tobytes() for name in ("images", "labels"))
    originals = {3: idx_bytes((5, 28, 28), images), 1: idx_bytes((5,), labels)}
    draw = random.Random(20)
    ended = dict.fromkeys(("plain refused", "plain right", "gz refused", "gz right"), 0)
    with little_memory():
        for number in range(MUTATIONS):
            dimensions, packed = draw.choice([1, 3]), number % 2 == 1
            content, cut = originals[dimensions], draw.randrange(10)
            if packed and number % 3:  # damaged after packing, in two members
                content = damaged(gzip.compress(content[:cut], mtime=0) + gzip.compress(content[cut:], mtime=0), draw)
            else:
                content = damaged(content, draw)
                content = gzip.compress(content, mtime=0) if packed else content
            path = tmp_path / f"images-{number}{'.gz' if packed else ''}"  # to replace a file takes longer
            path.write_bytes(content)
            plain = unpacked(content) if packed else content
            expected = meaning(plain, dimensions)
            started = time.monotonic()
            if expected is None:
                refused(path, dimensions)
            else:
                file = read_idx(path, dimensions)
                assert (tuple(file.array.shape), file.array.numpy().tobytes()) == expected, number
                assert file.sha256 == hashlib.sha256(plain).hexdigest(), number
            assert time.monotonic() - started < 1, number
            ended[f"{'gz' if packed else 'plain'} {'refused' if expected is None else 'right'}"] += 1
    print("mutated IDX files:", ended)
    assert min(ended.values()) >= 50, "mutations of all kinds, harmless ones as well"
