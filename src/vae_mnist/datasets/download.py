"""Published files, downloaded from a mirror and verified before anything reads them."""

import gzip
import multiprocessing
import shutil
import tempfile
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Event
from zipfile import BadZipFile, ZipFile

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from ..errors import MissingImagesError
from ..storage.atomic import atomic_write
from .published import KnownFile, Published

LEFTOVERS = ".download-????????"
SILENCE_SECONDS = 5.0  # without a byte
FILE_SECONDS = 120.0  # for one file of up to 64 MB, from the name look-up to its last byte; more for a larger one
PIECE_BYTES = 2**26


def fetch(which: Published, names: list[str], root: Path) -> str:
    """Download published files and place them, unpacked, under `root` once all are complete and verified.

    Nobody else may download to this `root` meanwhile.

    Args:
        which: the set that they belong to.
        names: of its files.
        root: as torchvision's class of this set understands it; the folder exists.

    Returns:
        The mirror they come from, one of those of the set.

    Raises:
        MissingImagesError: saying what each mirror answered.
        OSError: the disk is full, read-only or gone.
    """
    pooch.get_logger().setLevel("WARNING")  # the progress bar says the rest
    failures = []
    for mirror in which.mirrors:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            try:
                for name in names if which.archive is None else ():
                    packed = _retrieve(f"{mirror}{name}.gz", which.files[name], folder)
                    with gzip.open(packed) as content, atomic_write(Path(folder, name)) as temporary:
                        temporary.write_bytes(content.read())
                if which.archive is not None:
                    archive = _retrieve(f"{mirror}{which.archive[0]}", which.archive[1], folder)
                    _unpack(archive, names, folder)
            except (requests.RequestException, HTTPError, ValueError, BadZipFile, KeyError) as error:
                failures.append(f"{mirror} ({_reason(error)})")
                continue
            target = root / which.folder / "raw"
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                Path(folder, name).replace(target / name)
            return mirror
    raise MissingImagesError(f"download: no mirror served: {'; '.join(failures)}.")


def _unpack(archive: str, names: list[str], folder: str) -> None:
    with ZipFile(archive) as packed:
        for name in names:
            with (
                packed.open(f"gzip/{name}.gz") as member,
                gzip.open(member) as content,
                atomic_write(Path(folder, name)) as temporary,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(content, file)


def _retrieve(url: str, known: KnownFile, folder: str) -> str:
    """The path of the verified file."""
    given_up, seconds = Event(), FILE_SECONDS * max(1, known.packed_bytes / PIECE_BYTES)
    downloader = partial(_download, known.packed_bytes, given_up)
    # A thread can be left behind when time is up: requests limits neither the name look-up nor a header that drips in.
    with ThreadPool(1) as pool:
        path = pool.apply_async(
            pooch.retrieve, (url, known.packed_hash, Path(url).name, folder), {"downloader": downloader}
        )
        try:
            return str(path.get(seconds))
        except multiprocessing.TimeoutError:
            raise requests.Timeout(f"{Path(url).name}: not complete within {seconds:g} s") from None
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
        length = int(response.headers.get("Content-Length") or size)
        bar = tqdm(total=min(size, length), desc=Path(url).name, unit="B", unit_scale=True)
        with bar, Path(output_file).open("wb") as file:
            while not given_up.is_set() and (piece := response.raw.read1(min(size - file.tell(), 2**16))):
                file.write(piece)
                bar.update(len(piece))


def _reason(error: BaseException) -> str:
    """The message of the innermost cause that has one; those that requests wraps it in repeat the address."""
    while error.__context__ is not None and str(error.__context__):
        error = error.__context__
    return " ".join(str(error).split())  # a mirror may have sent lines
