"""Sets in the format of MNIST: files written here, and a server on this machine."""

import gzip
import hashlib
import io
import struct
import zipfile

import pytest
import torch
from torchvision import datasets

from vae_mnist.datasets import mnist
from vae_mnist.datasets.published import published
from vae_mnist.errors import DataError, MissingImagesError

from ..helpers.idx import idx_bytes
from .test_download import GOOD, Server


def of_set(which, train, test):
    """Content of the four files of a set, by name."""
    contents = {}
    for (images_name, labels_name), image_set in zip(
        zip(*[iter(which.files)] * 2, strict=True), (train, test), strict=True
    ):
        images, labels = image_set["images"][:, 0], image_set["labels"] + which.first_label
        images = images.transpose(1, 2).contiguous() if which.transposed else images
        contents[images_name] = idx_bytes(tuple(images.shape), images.numpy().tobytes())
        if labels_name.endswith("-int"):
            table = [number for label in labels.tolist() for number in (label, 7, 2**31 - 1, *[-1] * 5)]
            contents[labels_name] = idx_bytes(
                (len(labels), 8), struct.pack(f">{len(table)}i", *table), magic=b"\0\0\x0c"
            )
        else:
            contents[labels_name] = idx_bytes((len(labels),), bytes(labels.tolist()))
    return contents


@pytest.fixture
def pair(sample_images):
    return tuple(
        {key: tensor[:count] for key, tensor in each.items()}
        for each, count in zip(sample_images, (60, 20), strict=True)
    )


def write(root, which, contents):
    folder = root / which.folder / "raw"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


SETS = ["fashion", "kmnist", "qmnist", "emnist"]


@pytest.mark.parametrize("name", SETS)
def test_files_are_read_as_torchvision_reads_them(tmp_path, pair, name):
    which = published(name)
    write(tmp_path, which, of_set(which, *pair))
    raw = mnist.read(tmp_path, which)
    assert torch.equal(raw.train["images"], pair[0]["images"])
    assert torch.equal(raw.test["labels"], pair[1]["labels"])
    assert raw.name == which.name
    assert {facts["known"] for facts in raw.files.values()} == {None}
    theirs = {
        "fashion": datasets.FashionMNIST,
        "kmnist": datasets.KMNIST,
        "qmnist": datasets.QMNIST,
        "emnist": lambda root, train: datasets.EMNIST(root, "balanced", train=train),
    }[name](tmp_path, train=False)
    data = theirs.data.transpose(1, 2) if name == "emnist" else theirs.data  # which torchvision leaves transposed
    assert torch.equal(raw.test["images"].squeeze(1), data)
    targets = theirs.targets[:, 0] if name == "qmnist" else theirs.targets
    assert torch.equal(raw.test["labels"], targets.long())


def test_classes_have_their_published_names():
    assert published("fashion").class_names[9] == "Ankle boot"
    assert len(published("emnist").class_names) == 47
    assert published("emnist", "letters").class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    assert published("kmnist").class_names[1] == "ki"
    assert published("qmnist").class_names == ()


def test_letters_are_counted_from_nought(tmp_path, pair):
    which = published("emnist", "letters")
    contents = of_set(which, *pair)
    write(tmp_path, which, contents)
    assert torch.equal(mnist.read(tmp_path, which).train["labels"], pair[0]["labels"])
    name = "emnist-letters-test-labels-idx1-ubyte"
    (tmp_path / "EMNIST" / "raw" / name).write_bytes(idx_bytes((20,), bytes(20)))
    with pytest.raises(DataError, match=r"expected labels in 1\.\.26, found 0 at image 0"):
        mnist.read(tmp_path, which)


@pytest.mark.parametrize("name", ["fashion", "qmnist"])
def test_what_is_missing_is_downloaded_and_verified(tmp_path, pair, name, monkeypatch):
    which = published(name)
    contents = of_set(which, *pair)
    packed = {f"{file}.gz": gzip.compress(content) for file, content in contents.items()}
    server = Server(packed, GOOD["at once"])
    monkeypatch.setenv("no_proxy", "*")
    files = {
        file: known._replace(packed_hash=f"md5:{hashlib.md5(packed[f'{file}.gz']).hexdigest()}")  # noqa: S324
        for file, known in which.files.items()
    }
    try:
        with pytest.raises(MissingImagesError, match=r"does not match the known hash: expected md5:\w{32} but got"):
            mnist.read(tmp_path, which._replace(mirrors=[server.address]))
        raw = mnist.read(tmp_path, which._replace(mirrors=[server.address], files=files))
    finally:
        server.shutdown()
        server.server_close()
    assert raw.source == f"downloaded from {server.address}"
    assert torch.equal(raw.train["images"], pair[0]["images"])


@pytest.mark.parametrize("damage", ["no zip file", "a file is not in it"])
def test_of_an_archive_only_the_files_that_are_asked_for_are_kept(tmp_path, pair, damage, monkeypatch):
    which = published("emnist", "letters")
    contents = of_set(which, *pair)
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("gzip/emnist-digits-train-labels-idx1-ubyte.gz", b"of another set")
        for file, content in contents.items():
            archive.writestr(f"gzip/{file}.gz", gzip.compress(content))
    bad = b"no zip file"
    if damage != "no zip file":
        short = io.BytesIO()
        zipfile.ZipFile(short, "w").close()
        bad = short.getvalue()
    monkeypatch.setenv("no_proxy", "*")
    server = Server({"gzip.zip": body.getvalue()}, GOOD["at once"])
    worse = Server({"gzip.zip": bad}, GOOD["at once"])

    def of(content, *servers):
        known = which.archive[1]._replace(packed_hash=f"md5:{hashlib.md5(content).hexdigest()}")  # noqa: S324
        return which._replace(mirrors=[each.address for each in servers], archive=("gzip.zip", known))

    try:
        message = "File is not a zip file" if damage == "no zip file" else "There is no item named"
        with pytest.raises(MissingImagesError, match=message):
            mnist.read(tmp_path, of(bad, worse))
        raw = mnist.read(tmp_path, of(body.getvalue(), worse, server))
    finally:
        for each in (server, worse):
            each.shutdown()
            each.server_close()
    assert torch.equal(raw.test["images"], pair[1]["images"])
    assert {path.name for path in (tmp_path / "EMNIST" / "raw").iterdir()} == set(contents)
    assert {path.name for path in tmp_path.iterdir()} == {"EMNIST", ".download.lock"}


def test_integers_are_read_from_the_most_significant_byte(tmp_path):
    from vae_mnist.datasets.idx import read_idx

    numbers = [0, 1, 256, 2**31 - 1, -2, -(2**31)]
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes((2, 3), struct.pack(">6i", *numbers), magic=b"\0\0\x0c"))
    assert read_idx(path, 2, integers=True).array.flatten().tolist() == numbers
    with pytest.raises(DataError, match=r"expected magic number 0x00000802 \(2 dimensions of unsigned bytes\)"):
        read_idx(path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="expected 36 bytes from its header"):
        read_idx(path, 2, integers=True)
