"""Digits' files that are damaged, forged or no files at all: each ends in DataError or in what its bytes say."""

import gzip
import hashlib
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from vae_mnist.datasets import mnist
from vae_mnist.datasets.idx import MAX_BYTES, MAX_PACKED_BYTES, read_idx
from vae_mnist.errors import DataError

from ..helpers.idx import four_files, idx_bytes, lay_out
from ..helpers.project import ROOT

MUTATIONS = 3_000
# Beyond what the process has after reading the good files, which have up to 16 KB.
MEMORY_BYTES = 8 * 2**20
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def nothing_hangs():
    """A test that has not ended after a minute is broken off."""

    def ring(number, frame):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def small_files(digits):
    """The four files of 20 training and 10 test digits, by name."""
    train, test = digits
    return four_files(
        {key: value[:20] for key, value in train.items()}, {key: value[:10] for key, value in test.items()}
    )


@pytest.fixture
def contents(sample_digits):
    return small_files(sample_digits)


def refused(path, dimensions=3):
    """The message of the DataError that reading ends in: it names the file, what was expected and what was found."""
    with pytest.raises(DataError, match=r"expected .*(found|the header .*says)") as caught:
        read_idx(path, dimensions)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


# Mutations. Each takes and gives bytes.


def _flip(content, random):
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


def _overwrite(content, random):
    at, length = random.randrange(len(content)), random.choice([1, 2, 4, 30])
    return content[:at] + random.randbytes(length) + content[at + length :]


def _cut(content, random):
    return content[: random.randrange(len(content))]


def _insert(content, random):
    at = random.randrange(len(content) + 1)
    return content[:at] + random.choice([b"\0", b"\xff" * 4, random.randbytes(9)]) + content[at:]


def _delete(content, random):
    at = random.randrange(len(content))
    return content[:at] + content[at + random.choice([1, 4, 28, 784]) :]


def _double(content, random):
    at, length = random.randrange(len(content)), random.choice([1, 4, 28, 784])
    return content[: at + length] + content[at:]


def _edit_header(content, random):
    """Another number, or a small change, in one of the header's fields (in a gzip file: its flags, times and name)."""
    at = random.choice([0, 4, 8, 12]) % max(len(content) - 4, 1)
    number = random.choice([0, 1, 9, 20, 21, 28, 2**16, 2**20, 2**31, 2**32 - 1, random.randrange(2**32)])
    return content[:at] + struct.pack(">I", number) + content[at + 4 :]


def _edit_magic(content, random):
    at = random.randrange(10)
    return (
        content[:at]
        + bytes([random.choice([0, 1, 2, 3, 8, 13, 0x1F, 0x8B, random.randrange(256)])])
        + content[at + 1 :]
    )


def _append(content, random):
    return content + random.choice(
        [bytes(9), bytes(600), random.randbytes(8), content, gzip.compress(b""), gzip.compress(b"x")]
    )


def _prepend(content, random):
    return random.choice([b"\0", b"\xef\xbb\xbf", gzip.compress(b""), b"<html>"]) + content


EDITS = [_flip, _overwrite, _cut, _insert, _delete, _double, _edit_header, _edit_magic, _append, _prepend]


def _pack(content, random):
    """As gzip, in one member or several, with or without a name."""
    cuts = sorted(random.randrange(len(content) + 1) for _ in range(random.choice([0, 0, 1, 3])))
    packed = b"".join(
        gzip.compress(content[at:to], 6) for at, to in zip([0, *cuts], [*cuts, len(content)], strict=True)
    )
    if random.random() < 0.3:
        return packed[:3] + b"\x08" + packed[4:10] + b"name\0" + packed[10:]
    return packed


def _said(content, dimensions):
    """(array's dimensions, bytes) of a right plain IDX file, or None; written a second time, from the format alone."""
    fields = struct.unpack_from(f">{1 + dimensions}I", content.ljust(64, b"\0"))
    body = content[4 + 4 * dimensions :]
    size = 1
    for field in fields[1:]:
        size *= field
    return (fields[1:], body) if fields[0] == 0x800 + dimensions and body and len(body) == size else None


def _gunzipped(content):
    """What the bytes unpack to, by zlib alone; None if they are damaged."""
    unpacked = b""
    while content:
        member = zlib.decompressobj(wbits=-15)
        try:
            unpacked += (piece := member.decompress(_after_gzip_header(content), 2**20))
            if not member.eof or struct.unpack("<II", member.unused_data[:8]) != (zlib.crc32(piece), len(piece)):
                return None
        except (zlib.error, struct.error, IndexError, ValueError):
            return None
        content = member.unused_data[8:].lstrip(b"\0")  # padding is allowed
    return unpacked


def _after_gzip_header(content):
    if content[:3] != b"\x1f\x8b\x08":
        raise ValueError(content[:3])
    flags, content = content[3], content[10:]
    if flags & 4:
        content = content[2 + struct.unpack("<H", content[:2])[0] :]
    for flag in (8, 16):  # name, comment
        if flags & flag:
            content = content[content.index(b"\0") + 1 :]
    return content[2:] if flags & 2 else content


def read_mutated_files(folder, seed):
    """Read good files after each of many mutations, within a bound of memory; how many ended which way."""
    raw = mnist.read_sample()
    contents = small_files((raw.train, raw.test))
    folder, draw = Path(folder), random.Random(seed)
    for name, content in contents.items():  # whatever is loaded on first use is loaded now
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        read_idx(folder / f"{name}.gz", 3 if "images" in name else 1)
    before, slowest = limit_memory(), 0.0
    ended = dict.fromkeys(("plain refused", "plain right", "gz refused", "gz right"), 0)
    for number in range(MUTATIONS):
        packed = number % 2 == 1
        name = draw.choice([IMAGES, LABELS])
        dimensions = 3 if name == IMAGES else 1
        if number % 20 >= 18:  # swapped: the other file, or the other format, under this name
            content = contents[draw.choice(list(contents))]
            content = content if draw.random() < 0.5 else _pack(content, draw)
        else:
            content = contents[name]
            if packed and number % 3:  # damaged after packing, else before
                content = draw.choice(EDITS)(_pack(content, draw), draw)
            else:
                content = draw.choice(EDITS)(content, draw)
                content = _pack(content, draw) if packed else content
        path = folder / f"{name}-{number}{'.gz' if packed else ''}"
        path.write_bytes(content)
        unpacked = _gunzipped(content) if packed else content
        said = None if unpacked is None else _said(unpacked, dimensions)
        started = time.monotonic()
        if said is None:
            refused(path, dimensions)
        else:
            file = read_idx(path, dimensions)
            assert (tuple(file.array.shape), file.array.numpy().tobytes()) == said, path
            assert file.sha256 == hashlib.sha256(unpacked).hexdigest(), path
        slowest = max(slowest, time.monotonic() - started)
        ended[f"{'gz' if packed else 'plain'} {'refused' if said is None else 'right'}"] += 1
        path.unlink()
    sys.stdout.write("\n".join(map(str, (*ended.values(), memory("VmHWM") - before, slowest))))


def memory(field):
    """A field of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def limit_memory():
    """Refuse this process more memory, and let its peak begin again; gives what it has now."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") + MEMORY_BYTES,) * 2)
    with pytest.raises(MemoryError):
        bytearray(8 * MEMORY_BYTES)  # what was freed before can be had again
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory("VmRSS")


def in_process(code, *words, **options):
    """Run code in a process of its own, for what cannot be undone in this one."""
    command = [sys.executable, "-c", f"import sys; from {__name__} import *; {code}", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
def test_three_thousand_mutated_files_end_in_an_error_that_explains_or_in_right_data(tmp_path):
    *ended, grown, slowest = in_process("read_mutated_files(sys.argv[1], seed=20)", tmp_path)
    ended = [int(count) for count in ended]
    print("mutated IDX files:", ended, f"{int(grown) / 2**20:.2f} MiB more at the peak, slowest {slowest} s")
    assert sum(ended) == MUTATIONS
    assert min(ended) >= 50, "mutations of all kinds, harmless ones as well"
    assert int(grown) <= MEMORY_BYTES
    assert float(slowest) < 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "dimensions"), [(IMAGES, 3), (LABELS, 1)])
def test_a_file_cut_at_any_byte_of_its_headers_or_end_is_refused(tmp_path, contents, name, dimensions, packed):
    content = gzip.compress(contents[name]) if packed else contents[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    for length in [*range(64), *range(64, len(content), 97), *range(len(content) - 20, len(content))]:
        path.write_bytes(content[: min(length, len(content) - 1)])
        refused(path, dimensions)


def write_bomb(path, sizes, zeros):
    """A gzip file whose header claims `sizes`, and which unpacks to so many zeros after it."""
    packer = zlib.compressobj(1, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(idx_bytes(sizes, b"")))
        for _ in range(zeros // 2**20):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())


def read_within_memory(*paths):
    """Read files with little more memory than the process has; gives seconds, growth and message of each."""
    before = limit_memory()
    for path in paths:
        started = time.monotonic()
        message = refused(Path(path))
        sys.stdout.write(f"{time.monotonic() - started} {memory('VmHWM') - before} {message}\n")


CLAIMS = {  # (dimensions, MiB of zeros or, for a plain file, None): what is said
    (
        (150, 1024, 1024),
        150,
    ): r"at most 200 times its [67]\d\d,\d{3} bytes, the header .* says 157,286,416\. If .* unpack",
    ((1, 28, 28), 150): r"expected 800 bytes from its header \(1, 28, 28\), found more: the file is too long",
    ((2**20, 2**10, 1), 150): f"expected at most {MAX_BYTES:,} bytes, the header .* says 1,073,741,840",
    ((2**32 - 1,) * 3, 0): f"expected at most {MAX_BYTES:,} bytes",
    ((2**18, 2**10, 3), None): "expected 805,306,384 bytes .* found 5,016: the file is cut short",
}


def test_a_gzip_bomb_is_refused_before_it_is_unpacked_and_a_false_claim_takes_no_memory(tmp_path):
    paths = [tmp_path / f"{number}{'' if claim[1] is None else '.gz'}" for number, claim in enumerate(CLAIMS)]
    for (sizes, zeros), path in zip(CLAIMS, paths, strict=True):
        if zeros is None:
            path.write_bytes(idx_bytes(sizes, bytes(5000)))
        else:
            write_bomb(path, sizes, zeros * 2**20)
    lines = in_process("read_within_memory(*sys.argv[1:])", *paths)
    for line, expected in zip(lines, CLAIMS.values(), strict=True):
        seconds, grown, message = line.split(" ", 2)
        assert re.search(expected, message), message
        assert float(seconds) < 0.2
        assert int(grown) <= MEMORY_BYTES


def test_digits_that_pack_well_are_read(tmp_path):
    blank = idx_bytes((100, 28, 28), bytes(78_400))
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(blank) + bytes(350))
    assert 150 < len(blank) / path.stat().st_size < 200
    assert read_idx(path, 3).array.sum() == 0


def test_a_gzip_file_that_is_too_large_itself_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "images.gz"
    with path.open("wb") as file:
        file.write(gzip.compress(idx_bytes((1, 1, 1), b"x")))
        file.truncate(MAX_PACKED_BYTES + 1)
    started = time.monotonic()
    assert f"expected a gzip file of at most {MAX_PACKED_BYTES:,} bytes, found 67,108,865" in refused(path)
    assert time.monotonic() - started < 0.2


def test_labels_out_of_range_and_images_of_another_size_are_refused_packed_as_well(tmp_path, contents):
    for number, (name, content, message) in enumerate(
        [
            (LABELS, idx_bytes((20,), bytes(19) + b"\x0a"), "labels in 0..9, found 10 at digit 19"),
            (LABELS, idx_bytes((19,), bytes(19)), "one label for each of the 20 images .* says 19"),
            (
                IMAGES,
                idx_bytes((20, 28, 27), bytes(range(245)) * 64),
                r"expected 15,136 bytes .*\(20, 28, 27\), found more",
            ),
            (
                IMAGES,
                idx_bytes((20, 14, 14), bytes(20 * 14 * 14)),
                r"images of one size, found \(14, 14\) and \(28, 28\)",
            ),
        ]
    ):
        for packed in (False, True):
            root = lay_out(tmp_path / f"{number}{packed}", contents | {name: content}, packed)
            with pytest.raises(DataError, match=message):
                mnist.read_files(root)


# What else can lie under a file's name.


def _in_a_circle(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def _listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)


NO_FILES = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a socket": _listening,
    "a symbolic link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a symbolic link that leads in a circle": _in_a_circle,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_named_and_never_read_nor_passed_over(
    tmp_path, contents, kind, suffix, alone, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = lay_out(tmp_path, {} if alone else contents, packed=bool(suffix))
    path = root / "MNIST" / "raw" / f"{LABELS}{suffix}"
    path.unlink(missing_ok=True)
    NO_FILES[kind](path)
    with pytest.raises(DataError, match=rf"{path}: expected a regular file, found .*{kind}\. Delete it"):
        mnist.MnistDataset(path=str(root)).load().files()


def test_a_fifo_that_somebody_writes_good_digits_to_is_not_read_either(tmp_path, contents):
    path = tmp_path / IMAGES
    os.mkfifo(path)
    with subprocess.Popen(["/bin/sh", "-c", f"exec cat /dev/zero > {path}"]) as writer:
        assert "found a FIFO" in refused(path)
        writer.kill()


@pytest.mark.parametrize("part", ["MNIST", "MNIST/raw"])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("a symbolic link that leads nowhere", None),
        ("a symbolic link that leads in a circle", None),
        ("a file", "Not a directory"),
    ],
)
def test_what_is_no_folder_on_the_way_is_named(tmp_path, kind, found, part):
    path = tmp_path / part
    path.parent.mkdir(exist_ok=True)
    NO_FILES.get(kind, lambda path: path.write_text("x"))(path)
    with pytest.raises(DataError, match=rf"{IMAGES}: expected a regular file, found .*{found or kind}\."):
        mnist.read_files(tmp_path)


def test_links_to_good_files_are_followed(tmp_path, contents):
    lay_out(tmp_path / "store", contents)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "MNIST").symlink_to(tmp_path / "store" / "MNIST")
    assert len(mnist.read_files(tmp_path / "root").train["labels"]) == 20


def read_as_nobody(*roots):
    """Read files without the right to; gives each error's message."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for root in roots:
        with pytest.raises(DataError) as caught:
            mnist.read_files(Path(root))
        sys.stdout.write(f"{caught.value}\n")


def test_a_file_or_folder_that_may_not_be_read_is_named(tmp_path, contents):
    tmp_path.chmod(0o755)
    closed = [LABELS, f"{LABELS}.gz", "."]
    for name in closed:
        folder = lay_out(tmp_path / name.replace(".", "-"), contents, name.endswith(".gz")) / "MNIST" / "raw"
        (folder / name).chmod(0o000)
    roots = [name.replace(".", "-") for name in closed]  # seen from the folder: those above it are closed as well
    path = os.pathsep.join([str(ROOT), *sys.path])
    lines = in_process("read_as_nobody(*sys.argv[1:])", *roots, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    for line, root, name in zip(lines, roots, [*closed[:2], IMAGES], strict=True):
        assert line.startswith(f"{root}/MNIST/raw/{name}: expected a re")
        assert "found: [Errno 13] Permission denied" in line.replace("found [", "found: [")
    (tmp_path / "-" / "MNIST" / "raw").chmod(0o755)
