"""Zip archives and pickles as torch writes them, or not quite."""

import io
import pickle
import pickletools
import zipfile

import torch

from vae_mnist.storage.checkpoints import to_bytes

from .checkpoints import make_checkpoint, sealed


def torch_archive(records):
    """An archive of any records, as torch writes it."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, content in records.items():
        if name not in {"version", ".data/serialization_id"}:  # torch adds them
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return buffer.getvalue()


def records(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def op(value):
    """Pickle instructions that push a plain value."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def tensor(size, stride, count, key="extra", kind="FloatStorage", offset=0, hooks=b")"):
    """Pickle instructions that push a tensor; the record "extra" has 64 bytes."""
    storage = b"(" + op("storage") + f"ctorch\n{kind}\n".encode() + op(key) + op("cpu") + op(count) + b"tQ"
    shape = op(offset) + op(size) + op(stride) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + shape + b"ccollections\nOrderedDict\n" + hooks + b"RtR"


def with_more(instructions, content=None):
    """A perfect checkpoint whose pickle goes on with other instructions when its dict is complete."""
    found = {"data/extra": bytes(64)} | records(content or to_bytes(make_checkpoint()))
    return sealed(torch_archive(found | {"data.pkl": found["data.pkl"][:-1] + instructions + b"."}))


def under(key, instructions):
    """Pickle instructions that put {"x": what other instructions push} under a key of the checkpoint."""
    return op(key) + b"}" + op("x") + instructions + b"ss"


def doubled(levels, first, pair):
    """Each level holds the one before, @, twice: 2 ** levels of them in a few bytes."""
    return first + b"".join((b"q@" + pair).replace(b"@", bytes([n])) for n in range(100, 100 + levels))


def many(each):
    """300,000 entries of a dict."""
    return b"(" + b"".join(b"X\6\0\0\0%06d" % n + each for n in range(300_000)) + b"u"


def zipped(compression, megabytes):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, archive.open("archive/data.pkl", "w") as record:
        for _ in range(megabytes):
            record.write(bytes(10**6))
    return buffer.getvalue()
