"""Downloads from real HTTP servers on this machine, most of them bad ones, by this process and by others."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import torchvision

from vae_mnist.datasets import download, mnist
from vae_mnist.datasets.download import KNOWN, KnownFile
from vae_mnist.datasets.mnist import MnistDataset
from vae_mnist.errors import DataError

from ..helpers.idx import four_files, lay_out
from ..helpers.processes import wait_for
from ..helpers.project import without_coverage

SILENCE, WHOLE_FILE = 0.5, 1.2


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `behave` says."""

    def do_GET(self):
        self.name = self.path.rpartition("/")[2]
        self.server.asked.append(self.name)
        with contextlib.suppress(ConnectionError):  # the peer hangs up on most of these
            self.server.behave(self, self.server.files[self.name])

    def answer(self, body, status=200, length=-1, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body) if length == -1 else length} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def stall(self):
        self.server.gate.wait(30)

    def pour(self, piece=bytes(2**16), pause=0.0):
        try:
            while not self.server.gate.wait(pause):
                self.server.poured += self.wfile.write(piece)
        except ConnectionError:
            self.server.hung_up.set()

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

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
        m.answer(b"", 302, None, Location=f"/elsewhere/{m.name}")
        m.pour()


GOOD = {
    "good": lambda m, b: m.answer(b),
    "redirects and pours": redirects,
    "claims more": lambda m, b: m.answer(b, length=len(b) + 1000),
    "sends more": lambda m, b: m.answer(b + bytes(1000)),
    "names no length": lambda m, b: m.answer(b, length=None),
    "calls gzip an encoding": lambda m, b: m.answer(b, Content_Encoding="gzip"),
    "waits": lambda m, b: (m.stall(), m.answer(b)),
    "waits at the second file": lambda m, b: (len(m.server.asked) > 1 and m.stall(), m.answer(b)),
}
OTHER_BYTES = r"train-images-idx3-ubyte.gz\) does not match the known hash: expected \w{64} but got \w{64}"
SLOW, NO_ADAPTER = "train-images-idx3-ubyte.gz: not complete within 1.2 s", "No connection adapters were found for '"
CHUNKED = {"length": None, "Transfer_Encoding": "chunked"}
# What a mirror does, and how the error tells it.
BAD = {
    "html": (lambda m, b: m.answer(b"<html>We have moved</html>", Content_Type="text/html"), OTHER_BYTES),
    "wrong bytes": (lambda m, b: m.answer(b[:-1] + bytes([b[-1] ^ 1])), OTHER_BYTES),
    "not found": (lambda m, b: m.send_error(404), "404 Client Error: Not Found for url"),
    "serves one file": (lambda m, b: m.send_error(404) if m.server.asked[1:] else m.answer(b), "404.*train-labels"),
    "stalls half way": (lambda m, b: (m.answer(b[:99], length=len(b)), m.stall()), "timed out"),
    "drips": (lambda m, b: (m.answer(b"", length=len(b)), m.pour(b"x", 0.05)), SLOW),
    "drips its header": (lambda m, b: m.pour(b"H", 0.05), SLOW),
    "pours": (lambda m, b: (m.answer(b"", length=None), m.pour()), OTHER_BYTES),
    "pours behind a redirect": (lambda m, b: redirects(m, b"<html>"), OTHER_BYTES),
    "redirects to a file": (lambda m, b: m.answer(b"", 302, Location="file:///etc/hostname"), NO_ADAPTER + "file:"),
}
MORE_BAD = {
    "long html": (lambda m, b: m.answer(b"<p>We have moved</p>" * len(b)), OTHER_BYTES),
    "empty": (lambda m, b: m.answer(b""), OTHER_BYTES),
    "wrong digits": (lambda m, b: m.answer(gzip.compress(bytes(100))), OTHER_BYTES),
    "broken": (lambda m, b: m.send_error(500), "500 Server Error"),
    "stalls before the header": (lambda m, b: m.stall(), "timed out"),
    "drips the length of a chunk": (lambda m, b: (m.answer(b"", **CHUNKED), m.pour(b"0", 0.05)), SLOW),
    "pours behind an error": (lambda m, b: (m.answer(b"", 500, None), m.pour()), "500 Server Error"),
    "breaks off": (lambda m, b: m.answer(b[:99], length=len(b)), "IncompleteRead"),
    "claims less": (lambda m, b: m.answer(b, length=len(b) // 2), OTHER_BYTES),
    "claims less than nothing": (lambda m, b: m.answer(b[:-1], length=-5), OTHER_BYTES),
    "resets": (lambda m, b: (m.answer(b[:9], length=len(b)), m.reset()), "Connection reset by peer"),
    "speaks no http": (lambda m, b: m.wfile.write(b"220 ready\r\n" * 10), "220 ready"),
    "breaks a chunk": (lambda m, b: m.answer(b"3\r\nabc\r\n-7\r\nxyz\r\n", **CHUNKED), "IncompleteRead"),
    "redirects for ever": (lambda m, b: m.answer(b"", 302, Location=m.path), "30 redirects"),
    "redirects to ftp": (lambda m, b: m.answer(b"", 302, Location="ftp://127.0.0.1/"), NO_ADAPTER + "ftp:"),
    "redirects nowhere": (lambda m, b: m.answer(b"", 302, Location="http://[::1/"), "Invalid IPv6 URL"),
}
ALL_BAD = BAD | MORE_BAD


@pytest.fixture
def contents(sample_digits):
    return four_files(*({key: value[:20] for key, value in digits.items()} for digits in sample_digits))


@pytest.fixture
def mirrors(contents, monkeypatch):
    """Start mirrors of four small files, of which the download knows."""
    packed = {f"{name}.gz": gzip.compress(body) for name, body in contents.items()}
    for name, body in contents.items():
        sums = [hashlib.sha256(content).hexdigest() for content in (packed[f"{name}.gz"], body)]
        monkeypatch.setitem(KNOWN, name, KnownFile(len(packed[f"{name}.gz"]), *sums))
    monkeypatch.setattr(download, "SILENCE_SECONDS", SILENCE)
    monkeypatch.setattr(download, "FILE_SECONDS", WHOLE_FILE)
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(*kinds):
        new = [Server(packed, ALL_BAD[kind][0] if kind in ALL_BAD else GOOD[kind]) for kind in kinds]
        servers.extend(new)
        monkeypatch.setattr(download, "MIRRORS", [server.address for server in new])
        return new

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
    assert list(download.MIRRORS) == torchvision.datasets.MNIST.mirrors


@pytest.mark.parametrize("bad", [*BAD, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_BAD)])
def test_a_bad_mirror_is_told_and_left_for_the_next_one_and_leaves_nothing(tmp_path, mirrors, bad):
    first, second = mirrors(bad, "not found")
    answers = rf"{first.address} \(.*{ALL_BAD[bad][1]}.*\); {second.address} \(404 .*\)\.$"
    started = time.monotonic()
    with pytest.raises(DataError, match=f"^download: no mirror served: {answers}"):
        mnist.download(tmp_path)
    assert time.monotonic() - started < (WHOLE_FILE if "drips" in bad else SILENCE) + 1
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]
    if "pours" in bad or bad == "drips":
        assert first.hung_up.wait(2)
        assert first.poured < 16 * 2**20, "no more than the system's own buffers hold"


def test_the_next_mirror_serves_all_that_is_missing(tmp_path, mirrors, contents):
    _, good = mirrors("serves one file", "good")
    raw = mnist.download(tmp_path / "root")
    assert (raw.name, raw.source) == ("MNIST", f"downloaded from {good.address}")
    assert good.asked == [f"{name}.gz" for name in KNOWN]
    assert is_whole(tmp_path / "root", contents)


@pytest.mark.parametrize("odd", [kind for kind in GOOD if "waits" not in kind])
def test_a_mirror_that_serves_the_published_bytes_is_taken_however_it_does(tmp_path, mirrors, contents, odd):
    mirrors(odd)
    mnist.download(tmp_path)
    assert is_whole(tmp_path, contents)


def test_only_what_is_missing_is_fetched_and_what_is_there_stays(tmp_path, mirrors, contents):
    (server,) = mirrors("good")
    mine = contents | {"train-labels-idx1-ubyte": contents["train-labels-idx1-ubyte"][:8] + bytes(20)}
    del mine["t10k-labels-idx1-ubyte"]
    raw = mnist.download(lay_out(tmp_path, mine))
    assert server.asked == ["t10k-labels-idx1-ubyte.gz"]
    assert raw.train["labels"].tolist() == [0] * 20
    assert not raw.files["train-labels-idx1-ubyte"]["known"]
    assert raw.source.endswith(f"of which t10k-labels-idx1-ubyte downloaded from {server.address}")


def test_a_lock_that_is_never_released_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "LOCK_SECONDS", 0.2)
    with (tmp_path / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"\.download\.lock: expected another process to end .* within 0.2 s"):
            mnist.download(tmp_path)


@contextlib.contextmanager
def process(root, code, *before):
    """Another process, which knows of the small files and their mirrors."""
    told = json.dumps([KNOWN, download.MIRRORS, str(root)])
    prelude = """
import json, os, sys
from pathlib import Path
from vae_mnist.datasets import download
known, download.MIRRORS, root = json.loads(sys.argv[1])
download.KNOWN.update({name: download.KnownFile(*row) for name, row in known.items()})
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*before, sys.executable, "-c", prelude + code, told]
    with subprocess.Popen(command, env=without_coverage(), **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


def test_progress_is_shown_and_nothing_else(tmp_path, mirrors):
    mirrors("good")
    with process(tmp_path, "download.fetch(list(known), Path(root))") as fetching:
        shown = fetching.communicate(timeout=60)[1].split("\n")
    assert {line.split(":")[0] for line in shown if line} == {f"{name}.gz" for name in KNOWN}
    assert sum(": 100%" in line for line in shown) == len(KNOWN)


def namespace(*words):
    """A command that runs others in a name space of their own; skips the test where that is not allowed."""
    command = ["unshare", "--map-root-user", "--mount", *words]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no name spaces")
    return command


PATIENT = "from vae_mnist.datasets import mnist; download.FILE_SECONDS = download.SILENCE_SECONDS = 60\n"


@pytest.mark.slow
def test_of_two_processes_one_downloads_and_the_other_waits_for_it(tmp_path, mirrors, contents):
    (server,) = mirrors("waits")
    with process(tmp_path, PATIENT + "print(mnist.download(Path(root)).source)") as first:
        wait_for(lambda: server.asked, first)
        threading.Timer(0.5, server.gate.set).start()
        source = mnist.download(tmp_path).source
        assert source.startswith("files under ")
        assert "downloaded" not in source
        assert first.communicate(timeout=60)[0] == f"downloaded from {server.address}\n"
    assert sorted(server.asked) == sorted(f"{name}.gz" for name in contents), "each file was asked for once"
    assert is_whole(tmp_path, contents)


def test_what_a_killed_download_leaves_is_removed_by_the_next_run_though_it_downloads_nothing(tmp_path, mirrors):
    (server,) = mirrors("waits at the second file")
    with process(tmp_path, PATIENT + "mnist.download(Path(root))") as working:
        wait_for(lambda: len(server.asked) == 2, working)
        MnistDataset(path=tmp_path.as_posix()).load()
        (folder,) = tmp_path.glob(".download-*")
        assert (folder / "train-images-idx3-ubyte").is_file(), "it belongs to a process that is alive"
    assert folder.is_dir(), "that was SIGKILL"
    MnistDataset(path=tmp_path.as_posix()).load()
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]


@pytest.mark.slow
def test_a_rest_in_a_read_only_folder_stops_no_run(tmp_path, contents):
    """Digits that several machines share are often mounted so."""
    (tmp_path / ".download-abcd1234").mkdir()
    code = """
import logging
from vae_mnist.datasets.mnist import MnistDataset
assert not os.system(f"mount --bind {root} {root} && mount -o remount,bind,ro {root}")
os.chdir(root)
logging.basicConfig()
print(MnistDataset(path=root).load().files().source)
"""
    with process(lay_out(tmp_path, contents), code, *namespace()) as reading:
        out, err = reading.communicate(timeout=60)
    assert out == "files under MNIST/raw\n"
    assert re.search("what a killed download left stays: .*Read-only file system", err)


FULL = {
    "File too large": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**11, 2**11))",
    "No space left on device": "assert not os.system(f'mount -t tmpfs -o size=8k tmpfs {root}')",
}


@pytest.mark.parametrize("cause", ["File too large", pytest.param("No space left on device", marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_at_once_and_is_blamed_on_no_mirror(tmp_path, mirrors, cause):
    first, second = mirrors("good", "good")
    code = f"""{FULL[cause]}
from vae_mnist.datasets import mnist
try:
    mnist.download(Path(root))
except OSError as error:
    print(type(error).__name__, error, os.listdir(root))
"""
    with process(tmp_path, code, *(namespace() if cause.startswith("No space") else [])) as full:
        out, err = full.communicate(timeout=60)
    assert re.match(rf"WriteError {tmp_path}/\S+: cannot be written: {cause}.* \['.download.lock'\]$", out), err
    assert (len(first.asked), len(second.asked)) == (1, 0)


@pytest.mark.slow
def test_a_name_look_up_that_never_ends_costs_no_more_than_the_limit(tmp_path, mirrors):
    """A name server that listens and says nothing, in a network of its own."""
    mirrors()
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:20\n")
    code = """
import fcntl, socket, struct, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS, up and running
assert not os.system(f"mount --bind {root}/resolv.conf /etc/resolv.conf")
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
download.MIRRORS, download.FILE_SECONDS = ["http://mirror.test/"], 0.6
try:
    download.fetch(list(known), Path(root))
except download.DataError as error:
    print(silent.recv(512)[13:19], error, sep="|")
"""
    with process(tmp_path, code, *namespace("--net")) as looking:
        out, err = looking.communicate(timeout=15)  # less than the name server is given
    told = "b'mirror'|download: no mirror served: http://mirror.test/ (train-images-idx3-ubyte.gz: not complete"
    assert out.startswith(told), err
