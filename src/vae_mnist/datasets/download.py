"""The published MNIST files, downloaded from a mirror and verified before anything reads them."""

import gzip
import multiprocessing
import tempfile
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Event
from typing import NamedTuple

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from ..errors import DataError
from ..storage.atomic import atomic_write


class KnownFile(NamedTuple):
    """A file as LeCun, Cortes and Burges published it."""

    packed_bytes: int
    packed_sha256: str
    sha256: str  # of the unpacked file


KNOWN = {
    "train-images-idx3-ubyte": KnownFile(
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": KnownFile(
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": KnownFile(
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": KnownFile(
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
LEFTOVERS = ".download-????????"
SILENCE_SECONDS = 5.0  # without a byte
FILE_SECONDS = 120.0  # for one file, from the name look-up to its last byte; the largest has 10 MB


def fetch(names: list[str], root: Path) -> str:
    """Download published files and place them, unpacked, under <root>/MNIST/raw once all are complete and verified.

    Nobody else may download to this `root` meanwhile.

    Args:
        names: keys of KNOWN.
        root: as `torchvision.datasets.MNIST` understands it; the folder exists.

    Returns:
        The mirror they come from, one of MIRRORS.

    Raises:
        DataError: saying what each mirror answered.
        OSError: the disk is full, read-only or gone.
    """
    pooch.get_logger().setLevel("WARNING")  # the progress bar says the rest
    failures = []
    for mirror in MIRRORS:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            try:
                for name in names:
                    packed = _retrieve(f"{mirror}{name}.gz", KNOWN[name], folder)
                    with gzip.open(packed) as content, atomic_write(Path(folder, name)) as temporary:
                        temporary.write_bytes(content.read())
            except (requests.RequestException, HTTPError, ValueError) as error:
                failures.append(f"{mirror} ({_reason(error)})")
                continue
            target = root / "MNIST" / "raw"
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                Path(folder, name).replace(target / name)
            return mirror
    raise DataError(f"download: no mirror served: {'; '.join(failures)}.")


def _retrieve(url: str, known: KnownFile, folder: str) -> str:
    """The path of the verified file."""
    given_up = Event()
    downloader = partial(_download, known.packed_bytes, given_up)
    # A thread can be left behind when time is up: requests limits neither the name look-up nor a header that drips in.
    with ThreadPool(1) as pool:
        path = pool.apply_async(
            pooch.retrieve, (url, known.packed_sha256, Path(url).name, folder), {"downloader": downloader}
        )
        try:
            return str(path.get(FILE_SECONDS))
        except multiprocessing.TimeoutError:
            raise requests.Timeout(f"{Path(url).name}: not complete within {FILE_SECONDS:g} s") from None
        finally:
            given_up.set()


def _download(size: int, given_up: Event, url: str, output_file: str, _: object) -> None:
    """Write the first `size` bytes as they were sent; `pooch.HTTPDownloader` has no limit, and may unpack them."""
    with requests.get(
        url,
        stream=True,
        timeout=SILENCE_SECONDS,
        headers={"Accept-Encoding": "identity"},
        # Or requests would read all that comes with a redirect, however long.
        hooks={"response": lambda response, **_: response.close() if response.is_redirect else None},
    ) as response:
        response.raise_for_status()
        bar = tqdm(total=size, desc=Path(url).name, unit="B", unit_scale=True)
        with bar, Path(output_file).open("wb") as file:
            while not given_up.is_set() and (piece := response.raw.read1(min(size - file.tell(), 2**16))):
                file.write(piece)
                bar.update(len(piece))


def _reason(error: BaseException) -> str:
    """The message of the innermost cause that has one; those that requests wraps it in repeat the address."""
    while error.__context__ is not None and str(error.__context__):
        error = error.__context__
    return " ".join(str(error).split())  # a mirror may have sent lines
