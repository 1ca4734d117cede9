"""Downloads from real HTTP servers on this machine, most of them bad ones."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import json
import re
import resource
import subprocess
import sys
import threading
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pooch
import pytest
import torchvision

from vae_mnist.datasets import download, mnist, published
from vae_mnist.datasets.published import KNOWN, KnownFile
from vae_mnist.datasets.sources import SourcesDataset
from vae_mnist.errors import DataError, WriteError

from ..helpers.idx import lay_out
from ..helpers.processes import wait_for
from ..helpers.project import without_coverage
from ..helpers.rights import as_nobody

SILENCE, WHOLE_FILE = 0.5, 1.2


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `behave` says."""

    def do_GET(self):
        self.name = self.path.rpartition("/")[2]
        self.server.asked.append(self.name)
        with contextlib.suppress(ConnectionError):  # the peer hangs up on most of these
            self.server.behave(self, self.server.files[self.name])

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def stall(self, seconds=30):
        self.server.gate.wait(seconds)

    def pour(self, piece=bytes(2**16), pause=0.0):
        try:
            while not self.server.gate.wait(pause):
                self.server.poured += self.wfile.write(piece)
        except ConnectionError:
            self.server.hung_up.set()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files, behave):
        super().__init__(("127.0.0.1", 0), Mirror)
        self.files, self.behave, self.asked, self.poured = files, behave, [], 0
        self.gate, self.hung_up = threading.Event(), threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/mnist/"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


def redirects(m, b):
    if "elsewhere" in m.path:
        m.answer(b)
    else:
        m.answer(b"", 302, 2**40, Location=f"/elsewhere/{m.name}")
        m.pour()


GOOD = {
    "at once": lambda m, b: m.answer(b),
    "after a redirect that pours": redirects,
    "with more behind them": lambda m, b: m.answer(b + bytes(1000)),
    "and calls gzip an encoding": lambda m, b: m.answer(
        gzip.compress(b) if "gzip" in m.headers["Accept-Encoding"] else b, Content_Encoding="gzip"
    ),
    "after a while": lambda m, b: (m.stall(0.2), m.answer(b)),
    "but only one file": lambda m, b: (len(m.server.asked) > 1 and m.stall(), m.answer(b)),
}
OTHER_BYTES = r"train-images-idx3-ubyte.gz\) does not match the known hash: expected \w{64} but got \w{64}"
SLOW = "train-images-idx3-ubyte.gz: not complete within 1.2 s"
# What a mirror does, and how the error tells it.
BAD = {
    "wrong bytes": (lambda m, b: m.answer(b[:-1] + bytes([b[-1] ^ 1])), OTHER_BYTES),
    "not found": (lambda m, b: m.send_error(404), "404 Client Error: Not Found for url"),
    "serves one file": (lambda m, b: m.send_error(404) if m.server.asked[1:] else m.answer(b), "404.*train-labels"),
    "breaks off": (lambda m, b: m.answer(b[:99], length=len(b)), "IncompleteRead"),
    "stalls half way": (lambda m, b: (m.answer(b[:99], length=len(b)), m.stall()), "timed out"),
    "drips": (lambda m, b: (m.answer(b"", length=len(b)), m.pour(b"x", 0.05)), SLOW),
    "drips its header": (lambda m, b: m.pour(b"H", 0.05), SLOW),
    "pours": (lambda m, b: (m.answer(b"", length=2**40), m.pour()), OTHER_BYTES),
    "redirects to a file": (lambda m, b: m.answer(b"", 302, Location="file:///etc/hostname"), "No connection adapters"),
}


@pytest.fixture
def mirrors(contents, monkeypatch):
    """Start mirrors of the four files, of which the download knows."""
    packed = {f"{name}.gz": gzip.compress(body) for name, body in contents.items()}
    for name, body in contents.items():
        sums = [hashlib.sha256(content).hexdigest() for content in (packed[f"{name}.gz"], body)]
        monkeypatch.setitem(KNOWN, name, KnownFile(len(packed[f"{name}.gz"]), *sums))
    monkeypatch.setattr(download, "SILENCE_SECONDS", SILENCE)
    monkeypatch.setattr(download, "FILE_SECONDS", WHOLE_FILE)
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(*kinds):
        servers.extend(Server(packed, BAD[kind][0] if kind in BAD else GOOD[kind]) for kind in kinds)
        monkeypatch.setattr(published, "MIRRORS", [server.address for server in servers])
        return servers

    yield start
    for server in servers:
        server.gate.set()
        server.shutdown()
        server.server_close()


def is_whole(root, contents):
    """Whether the four files lie under the root, and nothing else but the lock."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return found == {".download.lock": b""} | {f"MNIST/raw/{name}": body for name, body in contents.items()}


def test_the_mirrors_are_those_of_torchvision():
    assert list(published.MIRRORS) == torchvision.datasets.MNIST.mirrors


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_mirror_is_told_and_left_for_the_next_one_and_leaves_nothing(tmp_path, mirrors, bad):
    first, second = mirrors(bad, "not found")
    answers = rf"{first.address} \(.*{BAD[bad][1]}.*\); {second.address} \(404 .*\)\.$"
    started = time.monotonic()
    with pytest.raises(DataError, match=f"^download: no mirror served: {answers}"):
        mnist.download(tmp_path)
    assert time.monotonic() - started < (WHOLE_FILE if "drips" in bad else SILENCE) + 1
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]
    if bad in {"pours", "drips"}:
        assert first.hung_up.wait(2)
        assert first.poured < 16 * 2**20, "no more than the system's own buffers hold"


def test_the_next_mirror_serves_all_that_is_missing(tmp_path, mirrors, contents):
    _, good = mirrors("serves one file", "at once")
    raw = mnist.download(tmp_path / "root")
    assert (raw.name, raw.source) == ("MNIST", f"downloaded from {good.address}")
    assert good.asked == [f"{name}.gz" for name in KNOWN]
    assert is_whole(tmp_path / "root", contents)


@pytest.mark.parametrize(
    "served", ["after a redirect that pours", "with more behind them", "and calls gzip an encoding"]
)
def test_a_mirror_that_serves_the_published_bytes_is_taken_however_it_does(tmp_path, mirrors, contents, served):
    mirrors(served)
    mnist.download(tmp_path)
    assert is_whole(tmp_path, contents)


def test_only_what_is_missing_is_fetched_and_what_is_there_stays(tmp_path, mirrors, contents):
    (server,) = mirrors("at once")
    mine = contents | {"train-labels-idx1-ubyte": contents["train-labels-idx1-ubyte"][:8] + bytes(60)}
    del mine["t10k-labels-idx1-ubyte"]
    raw = mnist.download(lay_out(tmp_path, mine))
    assert server.asked == ["t10k-labels-idx1-ubyte.gz"]
    assert raw.train["labels"].tolist() == [0] * 60
    assert not raw.files["train-labels-idx1-ubyte"]["known"]
    assert raw.source.endswith(f"of which t10k-labels-idx1-ubyte downloaded from {server.address}")


def test_progress_is_shown_and_nothing_else(tmp_path, mirrors, capsys, caplog, monkeypatch):
    mirrors("at once")
    pooch.get_logger().setLevel("INFO")  # as it comes
    monkeypatch.setattr(pooch.get_logger(), "handlers", [caplog.handler])
    download.fetch(published.published("mnist"), list(KNOWN), tmp_path)
    shown = capsys.readouterr().err.split("\n")
    assert {line.split(":")[0].strip() for line in shown if line} == {f"{name}.gz" for name in KNOWN}
    assert sum(": 100%" in line for line in shown) == len(KNOWN)
    assert not caplog.records


def test_a_lock_that_is_never_released_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "LOCK_SECONDS", 0.2)
    with (tmp_path / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"\.download\.lock: expected another process to end .* within 0.2 s"):
            mnist.download(tmp_path)


def test_of_two_downloads_to_one_folder_one_waits_for_the_other(tmp_path, mirrors, contents):
    (server,) = mirrors("after a while")
    with ThreadPool(2) as pool:
        first, second = sorted(raw.source for raw in pool.map(mnist.download, [tmp_path, tmp_path]))
    assert first == f"downloaded from {server.address}"
    assert second.startswith("files under ")
    assert "downloaded" not in second
    assert sorted(server.asked) == sorted(f"{name}.gz" for name in contents), "each file was asked for once"
    assert is_whole(tmp_path, contents)


def test_what_a_killed_download_leaves_is_removed_by_the_next_run_though_it_downloads_nothing(tmp_path, mirrors):
    (server,) = mirrors("but only one file")
    code = """
import json, sys
from pathlib import Path
from vae_mnist.datasets import mnist, published
known, published.MIRRORS, root = json.loads(sys.argv[1])
published.KNOWN.update({name: published.KnownFile(*row) for name, row in known.items()})
mnist.download(Path(root))
"""
    told = json.dumps([KNOWN, published.MIRRORS, str(tmp_path)])
    with subprocess.Popen([sys.executable, "-c", code, told], env=without_coverage()) as working:
        try:
            wait_for(lambda: len(server.asked) == 2, working)
            SourcesDataset(path=tmp_path.as_posix()).load()
            (folder,) = tmp_path.glob(".download-*")
            assert (folder / "train-images-idx3-ubyte").is_file(), "it belongs to a process that is alive"
        finally:
            working.kill()
    assert folder.is_dir(), "that was SIGKILL"
    SourcesDataset(path=tmp_path.as_posix()).load()
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]


def test_a_rest_in_a_read_only_folder_stops_no_run(tmp_path, contents, monkeypatch, caplog):
    """Images that several machines share are often mounted so."""
    (tmp_path / ".download-abcd1234").mkdir()
    monkeypatch.chdir(lay_out(tmp_path, contents))
    tmp_path.chmod(0o555)
    try:
        with as_nobody():
            raw = mnist.read_files(Path())
            SourcesDataset(path=".").load()
    finally:
        tmp_path.chmod(0o755)
    assert raw.source == "files under MNIST/raw"
    assert re.search("what a killed download left stays: .*Permission denied", caplog.text)


def test_a_full_disk_ends_the_run_at_once_and_is_blamed_on_no_mirror(tmp_path, mirrors):
    first, second = mirrors("at once", "at once")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**11, limits[1]))
    try:
        with pytest.raises(WriteError, match=rf"^{tmp_path}/\S+: cannot be written: File too large"):
            mnist.download(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]
    assert (len(first.asked), len(second.asked)) == (1, 0)
