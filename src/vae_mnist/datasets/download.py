"""The published MNIST files, fetched from a mirror and verified before anything reads them."""

import gzip
import hashlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, NamedTuple
from urllib import request
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from ..errors import DataError
from ..storage.atomic import atomic_write, plain_write_errors


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
LEFTOVERS = ".download-????????"
# The longest silence: from the name look-up to the first byte, and from one piece to the next.
SILENCE_SECONDS = 5.0
# For one file in all; the largest has 10 MB.
FILE_SECONDS = 120.0


def remove_leftovers(root: Path) -> None:
    """Remove what killed downloads left; nobody may fetch to this `root` meanwhile."""
    for folder in root.glob(LEFTOVERS):
        with plain_write_errors(folder):
            shutil.rmtree(folder)


def fetch(names: list[str], root: Path) -> str:
    """Bring published files, unpacked, to <root>/MNIST/raw; nobody else may fetch to this `root` meanwhile.

    Args:
        names: keys of KNOWN.
        root: as `torchvision.datasets.MNIST` understands it; the folder exists.

    Returns:
        The mirror they come from, one of `torchvision.datasets.MNIST.mirrors`.

    Raises:
        DataError: saying what each mirror answered.
        WriteError: the disk is full, read-only or gone, which is no mirror's fault.
    """
    from torchvision.datasets import MNIST

    remove_leftovers(root)
    failures = []
    for mirror in MNIST.mirrors:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            try:
                for name in names:
                    _unpack(_verified(mirror, name), Path(folder) / name)
            except _MirrorError as error:
                failures.append(f"{mirror} ({error})")
                continue
            target = root / "MNIST" / "raw"
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                (Path(folder) / name).replace(target / name)
            return str(mirror)
    raise DataError(f"download: no mirror served: {'; '.join(failures)}.")


class _MirrorError(Exception):
    """Why a mirror did not serve."""


class _Redirect(request.HTTPRedirectHandler):
    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        fp.close()  # or urllib would read what came with it, however long
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> request.OpenerDirector:
    # urllib's own opener would follow a mirror to ftp: as well.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        _Redirect,
        request.HTTPErrorProcessor,
        request.HTTPDefaultErrorHandler,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _pieces(address: str, size: int) -> Iterator[bytes]:
    """At most `size` bytes from an address, as they come.

    A thread of its own asks: neither a name look-up nor a header that drips in has a limit in urllib.

    Raises:
        _MirrorError: the mirror refused, broke off or was too slow.
    """
    arrived: SimpleQueue[bytes | Exception] = SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            with _opener().open(address, timeout=SILENCE_SECONDS) as answer:
                left = size
                while left > 0 and not given_up.is_set() and (piece := answer.read1(min(left, 2**16))):
                    arrived.put(piece)
                    left -= len(piece)
            arrived.put(b"")
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()
            arrived.put(error)

    threading.Thread(target=ask, daemon=True).start()
    end = time.monotonic() + FILE_SECONDS
    try:
        while piece := arrived.get(timeout=SILENCE_SECONDS):
            if isinstance(piece, Exception):
                reason = piece.reason if type(piece) is URLError else piece
                raise _MirrorError(" ".join(str(reason).split()) or type(piece).__name__)
            yield piece
            if time.monotonic() > end:
                raise _MirrorError(f"not complete within {FILE_SECONDS:g} s")
    except Empty:
        raise _MirrorError(f"nothing came for {SILENCE_SECONDS:g} s") from None
    finally:
        given_up.set()


def _verified(mirror: str, name: str) -> bytes:
    """A .gz from a mirror, as it was published."""
    known, body = KNOWN[name], bytearray()
    with tqdm(total=known.packed_bytes, desc=f"{name}.gz", unit="B", unit_scale=True) as bar:
        for piece in _pieces(f"{mirror}{name}.gz", known.packed_bytes):
            body += piece
            bar.update(len(piece))
    found = hashlib.sha256(body).hexdigest()
    if found != known.packed_sha256:
        raise _MirrorError(
            f"{name}.gz: expected the published file, {known.packed_bytes:,} bytes with sha256 {known.packed_sha256}, "
            f"got {len(body):,} with {found}"
        )
    return bytes(body)


def _unpack(packed: bytes, path: Path) -> None:
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
        gzip.open(BytesIO(packed)) as content,
    ):
        shutil.copyfileobj(content, file)
