"""Files as MedMNIST has them are read; all others are refused with what was expected and found, in little memory."""

import hashlib
import io
import os
import pickle
import random
import re
import struct
import time
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vae_mnist.datasets.npz import MAX_DIRECTORY, read_npz
from vae_mnist.datasets.parts import MAX_BYTES
from vae_mnist.errors import DataError

MEMORY_BYTES = 8 * 2**20
MUTATIONS = 1_000
RIGHT = {
    "train_images": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
    "train_labels": np.array([[2], [0], [1]], np.uint8),
    "test_images": np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5) + 100,
    "test_labels": np.array([[1], [2]], np.uint8),
}
COLOUR = RIGHT | {
    "train_images": np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3),
    "test_images": np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
}


def saved(tmp_path, save=np.savez, **arrays):
    """The path of a right file, apart from the arrays that are given; None leaves one out."""
    path = tmp_path / "set.npz"
    save(path, **{name: values for name, values in (RIGHT | arrays).items() if values is not None})
    return path


def npy(values, header=None):
    """An array as a .npy file, perhaps under another header."""
    buffer = io.BytesIO()
    if header is None:
        np.lib.format.write_array(buffer, values)
    else:
        np.lib.format.write_array_header_1_0(buffer, header)
        buffer.write(values)
    return buffer.getvalue()


def zipped(tmp_path, method=zipfile.ZIP_STORED, **contents):
    """The path of a right file, apart from the bytes of the .npy files that are given."""
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in ({name: npy(values) for name, values in RIGHT.items()} | contents).items():
            archive.writestr(f"{name}.npy", content)
    return path


def refused(path):
    """The message of the DataError that reading ends in."""
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: .*expected .*(found|says?)\b[^\n]*$") as caught:
        read_npz(path)
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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_grey_images_are_read_plain_or_packed(tmp_path, save):
    images = read_npz(saved(tmp_path, save))
    assert torch.equal(images.train["images"], torch.from_numpy(RIGHT["train_images"]).unsqueeze(1))
    assert torch.equal(images.test["images"], torch.from_numpy(RIGHT["test_images"]).unsqueeze(1))
    assert images.train["images"].dtype == torch.uint8


def test_colours_become_channels(tmp_path):
    images = read_npz(saved(tmp_path, **COLOUR)).train["images"]
    assert images.shape == (3, 3, 4, 5)
    assert images.is_contiguous()
    assert images[2, 1, 3, 0] == COLOUR["train_images"][2, 3, 0, 1]


def test_grey_images_may_have_an_axis_for_it(tmp_path):
    path = saved(tmp_path, train_images=RIGHT["train_images"][..., None])
    assert read_npz(path).train["images"].shape == (3, 1, 4, 5)


def test_labels_are_read_from_one_axis_or_two_of_any_integers(tmp_path):
    for kind in ("u1", "<i8", ">i8", ">u4"):
        images = read_npz(saved(tmp_path, train_labels=np.array([2, 0, 1], kind)))
        assert images.train["labels"].tolist() == [2, 0, 1]
        assert images.test["labels"].tolist() == [1, 2]
        assert images.train["labels"].dtype == images.test["labels"].dtype == torch.int64


def test_arrays_in_fortran_order_are_the_same(tmp_path):
    ordered = {name: np.asfortranarray(values) for name, values in COLOUR.items()}
    assert b"'fortran_order': True" in saved(tmp_path, **ordered).read_bytes()
    fortran, plain = read_npz(saved(tmp_path, **ordered)), read_npz(saved(tmp_path, **COLOUR))
    assert torch.equal(fortran.train["images"], plain.train["images"])


def test_validation_images_become_the_last_ones_for_training(tmp_path):
    images = read_npz(saved(tmp_path, val_images=RIGHT["test_images"], val_labels=np.array([5, 4])))
    assert torch.equal(images.train["images"][3:], images.test["images"])
    assert images.train["labels"].tolist() == [2, 0, 1, 5, 4]
    assert images.classes == ("0", "1", "2", "3", "4", "5")


def test_labels_that_are_all_0_are_no_classes(tmp_path):
    path = saved(tmp_path, train_labels=np.zeros(3, int), test_labels=np.zeros(2, int))
    assert read_npz(path).classes == ()


def test_the_file_is_identified(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert read_npz(path).files == {"set.npz": facts}


def test_arrays_of_other_names_are_ignored(tmp_path):
    path = saved(tmp_path, notes=np.array([{}], object))
    assert len(read_npz(path).train["labels"]) == 3


IMAGES, LABELS = RIGHT["train_images"], RIGHT["train_labels"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": IMAGES / 255}, r"uint8.*float64\. Save \(255 \* images\)\.round\(\)\.astype\(numpy\.uint8\)"),
        ({"train_images": IMAGES.astype(np.int64)}, r"uint8.*int64\. Save images\.astype\(numpy\.uint8\)"),
        ({"train_images": IMAGES[0]}, r"shape \(N, H, W\).*found \(4, 5\)"),
        ({"train_images": np.zeros((3, 4, 5, 2), np.uint8)}, r"found \(3, 4, 5, 2\)"),
        ({"train_images": np.zeros((3, 4, 5, 3, 3), np.uint8)}, r"found \(3, 4, 5, 3, 3\)"),
        ({"train_images": np.zeros((3, 0, 5), np.uint8)}, r"found \(3, 0, 5\)"),
        ({"train_images": np.zeros((3, 5, 4), np.uint8)}, r"images of one size, found \(4, 5, 1\) and \(5, 4, 1\)"),
        ({"test_images": COLOUR["test_images"]}, r"images of one size, found \(4, 5, 1\) and \(4, 5, 3\)"),
        ({"train_labels": np.array([0.0, 1.0, 2.0])}, r"integers, found float64\. Save labels\.astype"),
        ({"train_labels": np.array([True, True, False])}, "integers, found bool"),
        ({"train_labels": np.array(["a", "b", "c"])}, "integers, found <U1"),
        ({"train_labels": np.zeros((3, 14), int)}, r"one label for each image, found \(3, 14\)"),
        ({"train_labels": np.array(1)}, r"one label for each image, found \(\)"),
        ({"train_labels": np.array([0, -1, 2])}, r"labels in 0\.\.65,535, found -1 at image 1"),
        ({"train_labels": np.array([0, 1, 2**64 - 1], np.uint64)}, "found 18446744073709551615 at image 2"),
        ({"train_labels": np.array([0, 1, 65_536])}, "found 65536 at image 2"),
        ({"test_labels": np.array([0, 1, 2])}, "test_labels: expected one label for each of the 2 images, found 3"),
        ({"train_images": None}, r"the arrays train_images, .* found no train_images among \['train_labels',"),
        ({"val_images": IMAGES}, "both of val_images, val_labels, or neither.* found no val_labels"),
        ({"train_labels": np.array([{}, 1, 2], object)}, "train_labels: .* Python objects, .* not read"),
        ({"train_images": np.zeros((3, 4, 5), [("a", object)])}, "train_images: .* Python objects, .* not read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, arrays, message):
    assert re.search(message, refused(saved(tmp_path, **arrays)))


class Armed:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path):
    armed = pickle.dumps(Armed(tmp_path / "executed"))
    header = {"descr": "|O", "fortran_order": False, "shape": (3,)}
    for content in (armed, npy(armed, header)):
        refused(zipped(tmp_path, train_labels=content))
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_and_what_is_no_file_are_refused(tmp_path):
    assert "found nothing" in refused(tmp_path / "set.npz")
    os.mkfifo(tmp_path / "fifo.npz")
    assert "found a FIFO" in refused(tmp_path / "fifo.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_cut_at_any_byte_is_refused(tmp_path, save):
    path = saved(tmp_path, save)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "cut short" in refused(path)


def test_a_changed_value_is_refused(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(RIGHT["train_images"].tobytes(), bytes(60), 1))
    assert "Bad CRC-32" in refused(path)


def test_an_array_of_another_size_than_its_header_says_is_refused(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (3, 4, 5)}
    for count in (59, 61):
        path = zipped(tmp_path, train_images=npy(bytes(count), header))
        assert re.search(r"expected 188 bytes from its header \(3, 4, 5\), the archive says", refused(path))


def test_a_member_that_is_shorter_than_the_archive_says_is_refused(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (3, 2**20, 5)}
    test_images = npy(bytes(10 * 2**20), header | {"shape": (2, 2**20, 5)})
    path = zipped(tmp_path, zipfile.ZIP_DEFLATED, train_images=npy(bytes(60), header), test_images=test_images)
    content = path.read_bytes()
    assert content.count(struct.pack("<L", 188)) == 2  # the size in the member's header and in the directory
    path.write_bytes(content.replace(struct.pack("<L", 188), struct.pack("<L", 128 + 15 * 2**20)))
    with little_memory():
        assert (
            "train_images: expected 15,728,768 bytes from its header (3, 1048576, 5), found 188: cut short"
            in refused(path)
        )


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("train_labels.npy", npy(RIGHT["train_labels"]))
    assert "found a name twice" in refused(path)


def test_other_methods_of_packing_are_refused(tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "train_images: expected it deflated or stored" in refused(zipped(tmp_path, method))


def test_names_from_the_file_are_shown_safely(tmp_path):
    path = zipped(tmp_path, **{"\x1b[31m": b""})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\x1b[31m.npy", b"")
    assert r"'\x1b[31m'" in refused(path)
    assert "\x1b" not in refused(path)


def claims(*shape):
    return npy(b"", {"descr": "|u1", "fortran_order": False, "shape": shape})


def bomb(count):
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 2**10, 2**10)}
    return npy(bytes(count * 2**20), header)


def lots_of_header(length):
    return b"\x93NUMPY\2\0" + struct.pack("<L", length) + b" " * length


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"train_images": claims(2**31, 2**31, 2**31)}, "the archive says 128"),
        ({"train_images": claims(-1, 4, 5)}, r"found \(-1, 4, 5\)"),
        ({"train_images": lots_of_header(2**24)}, r"train_images: .* version 1\.0 .*, found: version \(2, 0\)"),
        ({"train_images": b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000}, "train_images: .* version 1.0"),
        ({"train_images": b"\x93NUMPY\1\0" + struct.pack("<H", 60_000) + b"-" * 60_000}, "found: Header info length"),
        ({"train_images": b"<html>" + bytes(100)}, "found: the magic string"),
        ({"train_images": b""}, "found: EOF"),
    ],
)
def test_false_claims_take_neither_memory_nor_time(tmp_path, contents, message):
    path = zipped(tmp_path, zipfile.ZIP_DEFLATED, **contents)
    with little_memory():
        started = time.monotonic()
        assert re.search(message, refused(path))
        assert time.monotonic() - started < 1


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    labels = {"train_labels": npy(np.zeros(70, int)), "test_images": npy(np.zeros((2, 1024, 1024), np.uint8))}
    path = zipped(tmp_path, zipfile.ZIP_DEFLATED, train_images=bomb(70), **labels)
    with little_memory():
        assert "at most 200 times its" in refused(path)


def test_arrays_that_are_too_large_together_are_refused_before_they_are_read(tmp_path):
    """The members have the right size, but only as a hole in the file."""
    count = MAX_BYTES // 2**20 - 1
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 2**10, 2**10)}
    start = npy(b"", header)
    path = zipped(
        tmp_path,
        train_images=start,
        train_labels=npy(np.zeros(count, int)),
        test_images=npy(np.zeros((2, 1024, 1024), np.uint8)),
    )
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("train_images.npy")
    small, large = (
        struct.pack("<LL", member.file_size, member.file_size),
        struct.pack("<LL", *[128 + count * 2**20] * 2),
    )
    path.write_bytes(path.read_bytes().replace(small, large))
    with little_memory():
        assert f"expected arrays of at most {MAX_BYTES:,} bytes" in refused(path)


def test_a_file_that_is_too_large_itself_is_refused_before_it_is_read(tmp_path):
    path = saved(tmp_path)
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    started = time.monotonic()
    assert f"a file of at most {MAX_BYTES:,} bytes, found 4,294,967,297" in refused(path)
    assert time.monotonic() - started < 0.2


def test_a_directory_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(16_000):  # each takes 46 bytes, and 20 of its name
            archive.writestr(f"{number:020}", b"")
    with little_memory():
        assert f"directory of at most {MAX_DIRECTORY:,} bytes, found 1,056,000" in refused(path)


def zip64_end(length, start, where):
    """The end of an archive of more than 2 GiB, with a directory of `length` bytes."""
    return (
        struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, length, start)
        + struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
        + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 4, 4, 200, 2**32 - 1, 0)
    )


def test_archives_of_more_than_2_gib_are_read_by_their_own_end(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()[:-22]
    length, start = struct.unpack("<LL", path.read_bytes()[-10:-2])
    path.write_bytes(content + zip64_end(length, start, len(content)))
    assert read_npz(path).train["labels"].tolist() == [2, 0, 1]
    path.write_bytes(content + zip64_end(2**30, start, len(content)))
    assert "found 1,073,741,824" in refused(path)
    path.write_bytes(content + zip64_end(length, start, len(content) - 1))
    assert "without its end" in refused(path)


@pytest.mark.slow
def test_a_thousand_mutated_files_end_in_an_error_that_explains_or_in_right_data(tmp_path):
    draw = random.Random(20)
    ended = {"refused": 0, "right": 0}
    for number in range(MUTATIONS):
        path = saved(tmp_path, draw.choice([np.savez, np.savez_compressed]))
        content = bytearray(path.read_bytes())
        at = draw.randrange(len(content))
        content[at : at + draw.choice([0, 1, 4, 30])] = draw.randbytes(draw.choice([0, 1, 4, 30]))
        path.write_bytes(content)
        try:
            images = read_npz(path)
        except DataError:
            refused(path)
            ended["refused"] += 1
        else:
            assert torch.equal(images.train["images"].squeeze(1), torch.from_numpy(RIGHT["train_images"])), number
            ended["right"] += 1
    print("mutated .npz files:", ended)
    assert min(ended.values()) >= 50
