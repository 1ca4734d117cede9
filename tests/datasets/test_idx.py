"""IDX files: right ones are read, damaged ones are named with what was expected and what was found."""

import gzip
import hashlib

import pytest

from vae_mnist.datasets.idx import MAX_BYTES, read_idx
from vae_mnist.errors import DataError

from ..helpers.idx import idx_bytes

IMAGES = idx_bytes((2, 3, 4), bytes(range(24)))
LABELS = idx_bytes((5,), bytes([0, 1, 2, 3, 9]))


def written(tmp_path, content, name="images-idx3-ubyte"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_images_are_read_in_the_headers_dimensions(tmp_path):
    file = read_idx(written(tmp_path, IMAGES), dimensions=3)
    assert file.array.shape == (2, 3, 4)
    assert file.array.flatten().tolist() == list(range(24))
    assert file.sha256 == hashlib.sha256(IMAGES).hexdigest()
    assert file.size == len(IMAGES)


def test_labels_are_read(tmp_path):
    assert read_idx(written(tmp_path, LABELS), dimensions=1).array.tolist() == [0, 1, 2, 3, 9]


def test_a_gzip_file_gives_the_same_with_the_checksum_of_its_content(tmp_path):
    plain = read_idx(written(tmp_path, IMAGES), dimensions=3)
    packed = read_idx(written(tmp_path, gzip.compress(IMAGES), "images.gz"), dimensions=3)
    assert packed.sha256 == plain.sha256
    assert packed.array.tolist() == plain.array.tolist()


@pytest.mark.parametrize("length", range(len(IMAGES)))
def test_a_file_cut_at_any_byte_is_refused(tmp_path, length):
    path = written(tmp_path, IMAGES[:length])
    with pytest.raises(DataError, match=r"images-idx3-ubyte: expected .*cut short.*Delete it"):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize("length", range(0, len(gzip.compress(IMAGES)), 5))
def test_a_gzip_file_cut_anywhere_is_refused(tmp_path, length):
    path = written(tmp_path, gzip.compress(IMAGES)[:length], "images.gz")
    with pytest.raises(DataError, match=r"images.gz: expected"):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize("extra", [1, 1000])
def test_trailing_bytes_are_refused(tmp_path, extra):
    with pytest.raises(DataError, match=r"expected 40 bytes from its header \(2, 3, 4\), found more: .* too long"):
        read_idx(written(tmp_path, IMAGES + b"x" * extra), dimensions=3)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    bomb = gzip.compress(IMAGES + b"\0" * 50_000_000)
    with pytest.raises(DataError, match="too long"):
        read_idx(written(tmp_path, bomb, "images.gz"), dimensions=3)


@pytest.mark.parametrize(
    "content",
    [LABELS, idx_bytes((2, 3, 4), b"", magic=b"\0\0\x0d"), b"\x89PNG\r\n\x1a\n" + bytes(40), b"<html>" + bytes(40)],
)
def test_a_wrong_magic_number_is_named(tmp_path, content):
    with pytest.raises(DataError, match=r"expected magic number 0x00000803.*found 0x|cut short"):
        read_idx(written(tmp_path, content + bytes(20)), dimensions=3)


@pytest.mark.parametrize("sizes", [(2**32 - 1,) * 3, (MAX_BYTES, 1, 1)])
def test_dimensions_beyond_memory_are_refused_before_any_is_taken(tmp_path, sizes):
    with pytest.raises(DataError, match=f"expected at most {MAX_BYTES:,} bytes"):
        read_idx(written(tmp_path, idx_bytes(sizes, b"")), dimensions=3)


def test_empty_dimensions_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"dimensions of at least 1, the header says \(0, 28, 28\)"):
        read_idx(written(tmp_path, idx_bytes((0, 28, 28), b"")), dimensions=3)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(DataError, match="expected a regular file, found a folder"):
        read_idx(tmp_path, dimensions=3)


def test_no_file_is_named(tmp_path):
    with pytest.raises(DataError, match="images: expected a regular file, found nothing"):
        read_idx(tmp_path / "images", dimensions=3)


def test_a_damaged_gzip_file_is_named(tmp_path):
    broken = bytearray(gzip.compress(IMAGES))
    broken[15] ^= 0xFF
    with pytest.raises(DataError, match=r"images.gz: expected"):
        read_idx(written(tmp_path, bytes(broken), "images.gz"), dimensions=3)
