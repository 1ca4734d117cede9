"""Real files, read without a network."""

import gzip
import hashlib

import pytest
import torch
import torchvision

from vae_mnist.datasets import mnist
from vae_mnist.datasets.download import KNOWN, KnownFile
from vae_mnist.errors import DataError

from ..helpers.idx import four_files, idx_bytes, lay_out


@pytest.fixture
def contents(sample_digits):
    train, test = sample_digits
    return four_files(
        {key: value[:60] for key, value in train.items()}, {key: value[:20] for key, value in test.items()}
    )


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_plain_or_packed(tmp_path, contents, sample_digits, packed):
    raw = mnist.read_files(lay_out(tmp_path, contents, packed))
    assert torch.equal(raw.train["images"], sample_digits[0]["images"][:60])
    assert torch.equal(raw.test["labels"], sample_digits[1]["labels"][:20])
    assert raw.train["images"].dtype == torch.uint8
    assert raw.train["labels"].dtype == torch.int64


def test_files_are_those_that_torchvision_reads(tmp_path, contents):
    lay_out(tmp_path, contents)
    raw = mnist.read_files(tmp_path)
    theirs = torchvision.datasets.MNIST(tmp_path, train=True)
    assert torch.equal(raw.train["images"].squeeze(1), theirs.data)
    assert torch.equal(raw.train["labels"], theirs.targets)


def test_unknown_checksums_are_kept_for_a_warning(tmp_path, contents):
    raw = mnist.read_files(lay_out(tmp_path, contents))
    assert raw.name == "MNIST-shaped digits"
    file = raw.files["train-images-idx3-ubyte"]
    assert file["known"] is False
    assert file["sha256"] == hashlib.sha256(contents["train-images-idx3-ubyte"]).hexdigest()


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


def test_a_damaged_file_is_an_error_that_names_it(tmp_path, contents):
    contents["t10k-images-idx3-ubyte"] = contents["t10k-images-idx3-ubyte"][:-1]
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: expected .* bytes .*found .*cut short"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_a_damaged_file_is_an_error_even_where_another_is_missing(tmp_path, contents):
    del contents["train-images-idx3-ubyte"]
    contents["t10k-images-idx3-ubyte"] = contents["t10k-images-idx3-ubyte"][:-1]
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: .*cut short"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_a_plain_file_comes_before_a_packed_one(tmp_path, contents, sample_digits):
    lay_out(tmp_path, contents)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.with_name(f"{labels.name}.gz").write_bytes(gzip.compress(idx_bytes((20,), bytes(20))))
    assert torch.equal(mnist.read_files(tmp_path).test["labels"], sample_digits[1]["labels"][:20])
    labels.unlink()
    assert mnist.read_files(tmp_path).test["labels"].tolist() == [0] * 20


def test_labels_out_of_range_are_named_with_their_place(tmp_path, contents):
    broken = bytearray(contents["train-labels-idx1-ubyte"])
    broken[8 + 5] = 10
    contents["train-labels-idx1-ubyte"] = bytes(broken)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: expected labels in 0..9, found 10 at digit 5"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_labels_for_other_images_are_refused(tmp_path, contents):
    contents["train-labels-idx1-ubyte"] = contents["t10k-labels-idx1-ubyte"]
    with pytest.raises(DataError, match=r"one label for each of the 60 images.*says 20"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_training_and_test_images_of_two_sizes_are_refused(tmp_path, contents):
    contents["t10k-images-idx3-ubyte"] = idx_bytes((20, 14, 14), bytes(20 * 14 * 14))
    with pytest.raises(DataError, match=r"images of one size, found \(28, 28\) and \(14, 14\)"):
        mnist.read_files(lay_out(tmp_path, contents))


def test_loading_the_dataset_reads_nothing_yet(tmp_path):
    dataset = mnist.MnistDataset(path=str(tmp_path / "nowhere"))
    assert dataset.exists()
    assert dataset.load().files() is None
    assert not (tmp_path / "nowhere").exists()


def test_the_raw_files_are_read_only(tmp_path):
    with pytest.raises(Exception, match="read-only"):
        mnist.MnistDataset(path=str(tmp_path)).save(object())
