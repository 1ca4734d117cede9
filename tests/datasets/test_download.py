"""Downloads from real HTTP servers on this machine, most of them bad ones, by this process and by others."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import json
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
from vae_mnist.errors import DataError

from ..helpers.idx import four_files, lay_out
from ..helpers.project import without_coverage

SILENCE, WHOLE_FILE = 0.6, 1.5


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves `files`; misbehaves as `behaviour` says."""

    files: dict = {}  # noqa: RUF012
    behaviour = "good"

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        body = self.files[name]
        # the peer hangs up on most of these
        with contextlib.suppress(ConnectionError):
            getattr(self, self.behaviour.replace(" ", "_"))(body)

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for header, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(header.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def good(self, body):
        self.answer(body)

    def waits(self, body):
        self.server.gate.wait(30)
        self.answer(body)

    def waits_at_the_second_file(self, body):
        if len(self.server.asked) > 1:
            self.server.gate.wait(30)
        self.answer(body)

    def html(self, body):
        self.answer(b"<html>Sorry, we have moved</html>", Content_Type="text/html")

    def long_html(self, body):
        self.answer(b"<p>Sorry, we have moved</p>" * len(body))

    def empty(self, body):
        self.answer(b"")

    def wrong_bytes(self, body):
        self.answer(body[:-1] + bytes([body[-1] ^ 1]))

    def wrong_digits(self, body):
        self.answer(gzip.compress(bytes(100)))

    def not_found(self, body):
        self.send_error(404)

    def broken(self, body):
        self.send_error(500)

    def stalls_before_the_header(self, body):
        self.server.gate.wait(30)

    def stalls_half_way(self, body):
        self.answer(body[: len(body) // 2], Content_Length=len(body))
        self.server.gate.wait(30)

    def drips(self, body):
        self.answer(b"", Content_Length=len(body))
        self.pour(b"x", pause=0.05)

    def drips_its_header(self, body):
        self.pour(b"H", pause=0.05)

    def pours(self, body):
        self.send_response(200)
        self.end_headers()
        self.pour(bytes(2**16))

    def pours_behind_a_redirect(self, body):
        self.send_response(302)
        self.send_header("Location", "/elsewhere/" + self.path.rpartition("/")[2])
        self.end_headers()
        self.pour(bytes(2**16))

    def pours_behind_an_error(self, body):
        self.send_response(500)
        self.end_headers()
        self.pour(bytes(2**16))

    def pour(self, piece, pause=0.0):
        while not self.server.gate.wait(pause):
            self.server.poured += self.wfile.write(piece)

    def breaks_off(self, body):
        self.answer(body[: len(body) // 2], Content_Length=len(body))

    def claims_less(self, body):
        self.answer(body, Content_Length=len(body) // 2)

    def claims_less_than_nothing(self, body):
        self.answer(body[:-1], Content_Length=-5)

    def resets(self, body):
        self.answer(body[:10], Content_Length=len(body))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def speaks_no_http(self, body):
        self.wfile.write(b"220 ready\r\n" * 10)

    def breaks_a_chunk(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"10\r\n0123456789abcdef\r\n-7\r\nxyz\r\n")

    def redirects_for_ever(self, body):
        self.answer(b"", 302, Location=self.path)

    def redirects_to_a_file(self, body):
        self.answer(b"", 302, Location="file:///etc/hostname")

    def redirects_to_ftp(self, body):
        self.answer(b"", 302, Location=f"ftp://127.0.0.1:{self.server.server_port}/")

    def redirects_nowhere(self, body):
        self.answer(b"", 302, Location="http://[::1/")

    def redirects(self, body):
        if self.path.startswith("/elsewhere/"):
            self.answer(body)
        else:
            self.answer(b"see there", 302, Location="/elsewhere/" + self.path.rpartition("/")[2])

    def claims_more(self, body):
        self.answer(body, Content_Length=len(body) + 1000)

    def sends_more(self, body):
        self.answer(body + bytes(1000))

    def names_no_length(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files, behaviour):
        super().__init__(("127.0.0.1", 0), type("Handler", (Mirror,), {"files": files, "behaviour": behaviour}))
        self.gate, self.asked, self.poured = threading.Event(), [], 0
        self.address = f"http://127.0.0.1:{self.server_port}/mnist/"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def contents(sample_digits):
    train, test = sample_digits
    return four_files(
        {key: value[:60] for key, value in train.items()}, {key: value[:20] for key, value in test.items()}
    )


@pytest.fixture
def mirrors(contents, monkeypatch):
    """Start mirrors of four small files; torchvision's list and the table of known files are told of them."""
    packed = {name: gzip.compress(body) for name, body in contents.items()}
    for name, body in contents.items():
        sums = [hashlib.sha256(content).hexdigest() for content in (packed[name], body)]
        monkeypatch.setitem(KNOWN, name, KnownFile(len(packed[name]), *sums))
    monkeypatch.setattr(download, "SILENCE_SECONDS", SILENCE)
    monkeypatch.setattr(download, "FILE_SECONDS", WHOLE_FILE)
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(*behaviours):
        new = [Server({f"{name}.gz": body for name, body in packed.items()}, behaviour) for behaviour in behaviours]
        servers.extend(new)
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [server.address for server in new])
        return new

    yield start
    for server in servers:
        server.gate.set()
        server.shutdown()
        server.server_close()


def files_under(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def whole(contents):
    """What lies under the root after a download."""
    return {".download.lock": b""} | {f"MNIST/raw/{name}": body for name, body in contents.items()}


BAD = {
    "html": r"train-images-idx3-ubyte.gz: expected the published file, .* bytes with sha256 .*, got 33 with",
    "long html": "expected the published file",
    "empty": r"got 0 with e3b0c442",
    "wrong bytes": "expected the published file",
    "wrong digits": "expected the published file",
    "not found": "HTTP Error 404",
    "broken": "HTTP Error 500",
    "stalls before the header": r"timed out|nothing came for 0.6 s",
    "stalls half way": r"timed out|nothing came for 0.6 s",
    "drips": "not complete within 1.5 s",
    "drips its header": "nothing came for 0.6 s",
    "pours": "expected the published file",
    "pours behind a redirect": "infinite loop",
    "pours behind an error": "HTTP Error 500",
    "breaks off": "expected the published file|IncompleteRead",
    "claims less": "expected the published file",
    "claims less than nothing": "expected the published file",
    "resets": "Connection reset",
    "speaks no http": "220 ready",
    "breaks a chunk": "IncompleteRead|expected the published file",
    "redirects for ever": "infinite loop",
    "redirects to a file": r"Redirection to url 'file:///etc/hostname' is not allowed",
    "redirects to ftp": "unknown url type: ftp",
    "redirects nowhere": "Invalid IPv6 URL",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_mirror_is_left_for_the_next_one_and_leaves_nothing(tmp_path, mirrors, contents, bad):
    first, good = mirrors(bad, "good")
    started = time.monotonic()
    raw = mnist.download(tmp_path / "root")
    assert time.monotonic() - started < WHOLE_FILE + SILENCE + 1
    assert raw.source == f"downloaded from {good.address}"
    assert raw.name == "MNIST"
    assert first.asked, "the bad one came first"
    assert files_under(tmp_path / "root") == whole(contents)


@pytest.mark.parametrize("bad", BAD)
def test_where_no_mirror_serves_each_ones_answer_is_told_and_no_file_stays(tmp_path, mirrors, bad):
    (server,) = mirrors(bad)
    with pytest.raises(DataError, match=rf"no mirror served: {server.address} \(.*({BAD[bad]})"):
        mnist.download(tmp_path / "root")
    assert files_under(tmp_path / "root") == {".download.lock": b""}
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".download.lock"]


@pytest.mark.parametrize("odd", ["good", "redirects", "claims more", "sends more", "names no length"])
def test_a_mirror_that_serves_the_published_bytes_is_taken_however_it_does(tmp_path, mirrors, contents, odd):
    (server,) = mirrors(odd)
    raw = mnist.download(tmp_path / "root")
    assert raw.source == f"downloaded from {server.address}"
    assert raw.name == "MNIST"
    assert files_under(tmp_path / "root") == whole(contents)


def test_files_land_where_torchvision_reads_them_and_progress_is_shown(tmp_path, mirrors, capfd):
    mirrors("good")
    raw = mnist.download(tmp_path)
    theirs = torchvision.datasets.MNIST(tmp_path, train=True)
    assert raw.train["images"].squeeze(1).equal(theirs.data)
    assert "train-images-idx3-ubyte.gz: 100%" in capfd.readouterr().err


@pytest.mark.parametrize("endless", ["pours", "pours behind an error", "drips"])
def test_a_mirror_that_never_ends_is_hung_up_on(tmp_path, mirrors, endless):
    (server,) = mirrors(endless)
    with pytest.raises(DataError):
        mnist.download(tmp_path)
    time.sleep(0.3)
    sent = server.poured
    time.sleep(0.3)
    assert server.poured == sent < 16 * 2**20, "no more than the system's own buffers hold"


def test_a_closed_port_and_one_that_never_answers_are_told(tmp_path, mirrors, monkeypatch):
    mirrors()
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [f"http://127.0.0.1:{port.getsockname()[1]}/" for port in (closed, silent)]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", addresses)
        started = time.monotonic()
        with pytest.raises(DataError, match=r"Errno 111\] Connection refused\); .*(timed out|nothing came)"):
            mnist.download(tmp_path)
    assert time.monotonic() - started < SILENCE + 1


def test_only_http_and_https_addresses_are_asked(tmp_path, mirrors, contents, monkeypatch):
    (server,) = mirrors("good")
    for name, body in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(body))
    https = server.address.replace("http:", "https:")
    addresses = [f"{tmp_path.as_uri()}/", "ftp://127.0.0.1/", "data:,", "no address", https]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", addresses)
    types = r"type: file.*type: ftp.*type: data.*type: 'no address.*SSL"
    with pytest.raises(DataError, match=types):
        mnist.download(tmp_path / "root")
    assert server.asked == []


def test_a_proxy_is_used(tmp_path, mirrors, monkeypatch):
    (server,) = mirrors("good")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://mirror.invalid/mnist/"])
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server.address)
    assert mnist.download(tmp_path).source == "downloaded from http://mirror.invalid/mnist/"


def test_only_what_is_missing_is_fetched_and_what_is_there_stays(tmp_path, mirrors, contents):
    (server,) = mirrors("good")
    mine = contents | {"train-labels-idx1-ubyte": contents["train-labels-idx1-ubyte"][:8] + bytes(60)}
    del mine["t10k-labels-idx1-ubyte"]
    raw = mnist.download(lay_out(tmp_path, mine))
    assert server.asked == ["t10k-labels-idx1-ubyte.gz"]
    assert raw.train["labels"].tolist() == [0] * 60
    assert not raw.files["train-labels-idx1-ubyte"]["known"]
    assert raw.source.endswith(f"of which t10k-labels-idx1-ubyte downloaded from {server.address}")


def test_a_lock_that_is_never_released_is_told(tmp_path, mirrors, monkeypatch):
    mirrors("good")
    monkeypatch.setattr(mnist, "LOCK_SECONDS", 0.2)
    with (tmp_path / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"\.download\.lock: expected another process to end .* within 0.2 s"):
            mnist.download(tmp_path)


# What another process needs to know of the small files and their mirrors.
PRELUDE = """
import json, sys
from pathlib import Path
import torchvision
from vae_mnist.datasets import download, mnist

known, torchvision.datasets.MNIST.mirrors, root = json.loads(sys.argv[1])
download.KNOWN.update({name: download.KnownFile(*row) for name, row in known.items()})
print("ready", flush=True)
"""


def process(root, code, *before):
    """Start a process that has the tables of this one."""
    told = json.dumps([KNOWN, torchvision.datasets.MNIST.mirrors, str(root)])
    command = [*before, sys.executable, "-c", PRELUDE + code, told]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=without_coverage())


def namespace(*words):
    """A command that runs others in a name space of their own; skips the test where that is not allowed."""
    command = ["unshare", "--map-root-user", "--mount", *words]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no name spaces")
    return command


def test_of_two_processes_one_downloads_and_the_other_waits_for_it(tmp_path, mirrors, contents):
    (server,) = mirrors("waits")
    code = "download.SILENCE_SECONDS = 30; print(mnist.download(Path(root)).source)"
    both = [process(tmp_path, code) for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    time.sleep(1)
    server.gate.set()
    told = sorted(one.communicate(timeout=60)[0] for one in both)
    assert [one.returncode for one in both] == [0, 0]
    assert told[0] == f"downloaded from {server.address}\n"
    assert told[1].startswith("files under ")
    assert "downloaded" not in told[1]
    assert sorted(server.asked) == sorted(f"{name}.gz" for name in contents), "each file was asked for once"
    assert files_under(tmp_path) == whole(contents)


@pytest.fixture
def half_way(tmp_path, mirrors):
    """A process in the middle of a download, and the folder that it downloads to."""
    (server,) = mirrors("waits at the second file")
    working = process(tmp_path, "download.SILENCE_SECONDS = 30; mnist.download(Path(root))")
    deadline = time.monotonic() + 60
    while len(server.asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder,) = tmp_path.glob(".download-*[!k]")
    assert [path.name for path in folder.iterdir()] == ["train-images-idx3-ubyte"]
    yield working, folder
    working.kill()
    working.communicate()


def kill(process):
    process.kill()
    process.communicate()


def test_what_a_killed_process_leaves_is_removed_by_the_next_download(tmp_path, mirrors, contents, half_way):
    kill(half_way[0])
    mirrors("good")
    mnist.download(tmp_path)
    assert files_under(tmp_path) == whole(contents)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.lock", "MNIST"]


def test_what_a_killed_process_leaves_is_removed_by_the_next_run_though_it_downloads_nothing(tmp_path, half_way):
    working, folder = half_way
    mnist.MnistDataset(path=tmp_path.as_posix()).load()
    assert folder.is_dir(), "it belongs to a process that is alive"
    kill(working)
    assert folder.is_dir()
    mnist.MnistDataset(path=tmp_path.as_posix()).load()
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]


def test_a_rest_in_a_read_only_folder_stops_no_run(tmp_path, contents):
    """Digits that several machines share are often mounted so."""
    (tmp_path / ".download-abcd1234").mkdir()
    lay_out(tmp_path, contents)
    code = """
import logging, os
assert not os.system(f"mount --bind {root} {root} && mount -o remount,bind,ro {root}")
os.chdir(root)
logging.basicConfig()
print(mnist.MnistDataset(path=root).load().files().source)
"""
    out, err = process(tmp_path, code, *namespace()).communicate(timeout=60)
    assert out == "ready\nfiles under MNIST/raw\n"
    assert "what a killed download left stays: " in err
    assert "Read-only file system" in err


FULL = {
    "File too large": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))",
    "No space left on device": "import os; assert not os.system(f'mount -t tmpfs -o size=32k tmpfs {root}')",
}


@pytest.mark.parametrize("cause", FULL)
def test_a_full_disk_ends_the_run_at_once_and_is_blamed_on_no_mirror(tmp_path, mirrors, cause):
    first, second = mirrors("good", "good")
    code = f"""{FULL[cause]}
from vae_mnist.config.parameters import IngestConfig
from vae_mnist.pipelines.ingest.nodes import read_digits
try:
    read_digits(mnist.MnistDataset(path=root).load(), IngestConfig(source="auto", validation_size=0))
finally:
    print(*[path.name for path in Path(root).iterdir()])
"""
    full = process(tmp_path, code, *(namespace() if cause.startswith("No space") else []))
    out, err = full.communicate(timeout=60)
    assert full.returncode == 1, out + err
    last = err.splitlines()[-1]
    assert cause in last
    assert f"{tmp_path}/.download-" in last
    assert "train-images-idx3-ubyte" in last
    assert "DataError" not in last
    assert (len(first.asked), len(second.asked)) == (1, 0)
    assert out.split() == ["ready", ".download.lock"]


def test_a_name_look_up_that_never_ends_costs_no_more_than_the_limit(tmp_path, mirrors):
    """A name server that listens and says nothing, in a network of its own."""
    mirrors()
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:20\n")
    code = """
import fcntl, os, socket, struct, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS, up and running
assert not os.system(f"mount --bind {root}/resolv.conf /etc/resolv.conf")
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
torchvision.datasets.MNIST.mirrors = ["http://mirror.test/"]
download.SILENCE_SECONDS = 0.6
started = time.monotonic()
try:
    mnist.download(Path(root))
except mnist.DataError as error:
    print(error, silent.recv(512)[13:19], time.monotonic() - started, sep="|")
"""
    out, err = process(tmp_path, code, *namespace("--net")).communicate(timeout=60)
    message, asked, seconds = out.removeprefix("ready\n").split("|")
    assert "http://mirror.test/ (nothing came for 0.6 s)" in message, err
    assert asked == "b'mirror'"
    assert float(seconds) < 2
