"""Real files, read without a network."""

import gzip
import hashlib
import os
import socket

import pytest
import torch
import torchvision

from vae_mnist.datasets import mnist
from vae_mnist.datasets.published import KNOWN, KnownFile
from vae_mnist.datasets.sources import SourcesDataset
from vae_mnist.errors import DataError

from ..helpers.idx import idx_bytes, lay_out
from ..helpers.rights import as_nobody

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_plain_or_packed(tmp_path, contents, sample_images, packed):
    raw = mnist.read_files(lay_out(tmp_path, contents, packed))
    assert torch.equal(raw.train["images"], sample_images[0]["images"][:60])
    assert torch.equal(raw.test["labels"], sample_images[1]["labels"][:20])
    assert raw.train["images"].dtype == torch.uint8
    assert raw.train["labels"].dtype == torch.int64


def test_files_are_those_that_torchvision_reads(tmp_path, contents):
    lay_out(tmp_path, contents)
    raw = mnist.read_files(tmp_path)
    theirs = torchvision.datasets.MNIST(tmp_path, train=True)
    assert torch.equal(raw.train["images"].squeeze(1), theirs.data)
    assert torch.equal(raw.train["labels"], theirs.targets)


def test_links_to_good_files_are_followed(tmp_path, contents):
    lay_out(tmp_path / "store", contents)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "MNIST").symlink_to(tmp_path / "store" / "MNIST")
    assert len(mnist.read_files(tmp_path / "root").train["labels"]) == 60


def test_unknown_checksums_are_kept_for_a_warning(tmp_path, contents):
    raw = mnist.read_files(lay_out(tmp_path, contents))
    assert raw.name == "MNIST-shaped images"
    file = raw.files[IMAGES]
    assert file["known"] is False
    assert file["sha256"] == hashlib.sha256(contents[IMAGES]).hexdigest()


def test_known_checksums_make_it_mnist(tmp_path, contents, monkeypatch):
    for name, body in contents.items():
        monkeypatch.setitem(KNOWN, name, KnownFile(0, "", hashlib.sha256(body).hexdigest()))
    raw = mnist.read_files(lay_out(tmp_path, contents))
    assert raw.name == "MNIST"
    assert all(file["known"] for file in raw.files.values())


def test_no_folder_and_a_missing_file_are_no_error_of_their_own(tmp_path, contents):
    assert mnist.read_files(tmp_path) is None
    lay_out(tmp_path, contents)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert mnist.read_files(tmp_path) is None


def test_a_damaged_file_is_an_error_even_where_another_is_missing(tmp_path, contents):
    del contents[IMAGES]
    contents["t10k-images-idx3-ubyte"] = contents["t10k-images-idx3-ubyte"][:-1]
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: expected .* bytes .*found .*cut short"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_a_plain_file_comes_before_a_packed_one(tmp_path, contents, sample_images):
    lay_out(tmp_path, contents)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.with_name(f"{labels.name}.gz").write_bytes(gzip.compress(idx_bytes((20,), bytes(20))))
    assert torch.equal(mnist.read_files(tmp_path).test["labels"], sample_images[1]["labels"][:20])
    labels.unlink()
    assert mnist.read_files(tmp_path).test["labels"].tolist() == [0] * 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LABELS, idx_bytes((60,), bytes(59) + b"\x0a"), f"{LABELS}: expected labels in 0..9, found 10 at image 59"),
        (LABELS, idx_bytes((20,), bytes(20)), f"{LABELS}: expected one label for each of the 60 images in .* says 20"),
        (IMAGES, idx_bytes((60, 14, 14), bytes(60 * 14**2)), r"images of one size, found \(14, 14\) and \(28, 28\)"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, contents, name, content, message):
    with pytest.raises(DataError, match=message):
        mnist.read_files(lay_out(tmp_path, contents | {name: content}))


def _in_a_circle(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def _listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)


LINKS = {
    "a symbolic link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "Too many levels of symbolic links": _in_a_circle,
}
NO_FILES = LINKS | {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a socket": _listening,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
NO_FOLDERS = LINKS | {"Not a directory": lambda path: path.touch()}


@pytest.mark.parametrize(
    ("place", "kind", "make"),
    [(f"MNIST/raw/{LABELS}{suffix}", *kind) for suffix in ("", ".gz") for kind in NO_FILES.items()]
    + [(place, *kind) for place in ("MNIST", "MNIST/raw") for kind in NO_FOLDERS.items()],
)
def test_what_is_no_file_or_no_folder_is_named_and_neither_read_nor_passed_over(
    tmp_path, place, kind, make, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/MNIST/raw/\S+: expected a regular file, found .*{kind}\. Delete"
    ):
        mnist.read_files(tmp_path)


@pytest.mark.parametrize("name", [LABELS, "."])
def test_a_file_or_folder_that_may_not_be_read_is_named(tmp_path, contents, name, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # and seen from here: those above are closed to others as well
    closed = lay_out(tmp_path, contents) / "MNIST" / "raw" / name
    closed.chmod(0o000)
    try:
        with (
            as_nobody(),
            pytest.raises(DataError, match=r"^MNIST/raw/train-\S+: expected .* found:? \[Errno 13\] Perm"),
        ):
            mnist.read_files(tmp_path.relative_to(tmp_path))
    finally:
        closed.chmod(0o755)


def test_loading_the_dataset_reads_nothing_yet(tmp_path):
    dataset = SourcesDataset(path=str(tmp_path / "nowhere"))
    assert dataset.exists()
    assert {"mnist", "sample", "fashion"} <= dataset.load().keys()
    assert not (tmp_path / "nowhere").exists()


def test_the_raw_files_are_read_only(tmp_path):
    with pytest.raises(Exception, match="read-only"):
        SourcesDataset(path=str(tmp_path)).save(object())
