"""Files that a stranger made, or a bad disk: nothing in them runs, nothing hangs, memory stays bounded."""

import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from functools import partial

import pytest
import torch
from safetensors.torch import save as safetensors_save

from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.archives import DIGITS, LABEL
from vae_mnist.storage.checkpoints import read_checkpoint, to_bytes

from ..helpers.archives import doubled, many, op, records, tensor, torch_archive, under, with_more, zipped
from ..helpers.checkpoints import Command, contents, make_checkpoint, sealed, torch_saved
from ..helpers.project import ROOT

BOUND = 150  # MB of memory beyond a file's own size, whatever the file is
SECONDS = 20


weights, model = partial(under, "model_state"), partial(under, "model")


UNREAD, FOREIGN = "cannot be read", "torch.save did not write"
STRANGE = "a file without checksum, from another program or an older version"
OTHER, TWICE, SHARED = "of other things than dicts", "refers twice", "tensors that share no memory"

SHARED_TUPLES = doubled(60, b")", b"h@\x86")
WIDE = b"(]q\xf0(" + b"N" * 1000 + b"e]q\xf1(" + b"h\xf0" * 1000 + b"e]q\xf2(" + b"h\xf1" * 1000 + b"et"  # 10^9 of None

# Name -> instructions at the end of the pickle, the reason that is given.
BOMBS = {
    "os_system": (weights(b"cposix\nsystem\n" + op("true") + b"\x85R"), "asks for 'posix.system'"),
    "bytearray": (weights(b"cbuiltins\nbytearray\n" + op(10**10) + b"\x85R"), "asks for 'builtins.bytearray'"),
    "counter": (model(b"ccollections\nCounter\n)R"), "asks for 'collections.Counter'"),
    "float_tensor": (weights(b"ctorch\nFloatTensor\n" + op(2**34) + b"\x85R"), "asks for 'torch.FloatTensor'"),
    "terabytes_claimed": (weights(tensor((2**38,), (1,), 2**38)), UNREAD),
    "terabytes_in_the_size": (weights(tensor((2**38,), (1,), 16)), UNREAD),
    "terabytes_by_stride_0": (weights(tensor((2**38,), (0,), 16)), SHARED),
    "terabytes_of_moments": (
        op("optimizer_state") + b"}(" + op("state") + b"}K\0}" + op("a") + tensor((2**38,), (0,), 16) + b"ss"
        + op("param_groups") + b"]us", SHARED),
    "gigabytes_by_overlap": (weights(tensor((2**15, 2**15), (0, 0), 16)), SHARED),
    "behind_its_storage": (weights(tensor((16,), (1,), 16, offset=2**40)), UNREAD),
    "negative_size": (weights(tensor((-4, -4), (1, 1), 16)), UNREAD),
    "size_of_texts": (weights(tensor(("a",), (1,), 16)), OTHER),
    "storage_that_is_not_there": (weights(tensor((1,), (1,), 1, key="none")), UNREAD),
    "storage_of_another_type": (weights(tensor((16,), (1,), 16, kind="DoubleStorage")), UNREAD),
    "many_dimensions": (weights(tensor((16,) + (1,) * 5000, (1,) * 5001, 16)), ""),
    "hooks": (weights(tensor((16,), (1,), 16, hooks=b"]\x85")), OTHER),
    "shared_tuples_as_key": (weights(b"}" + SHARED_TUPLES + b"Ns"), TWICE),
    "shared_tuples_as_storage": (
        b"(" + op("storage") + b"ctorch\nFloatStorage\n" + SHARED_TUPLES + op("cpu") + op(16) + b"tQ", TWICE),
    "deep_tuple_as_key": (weights(b"})" + b"\x85" * 900_000 + b"Ns"), OTHER),
    "shared_lists": (op("model") + WIDE + b"s" + op("model") + b"}" + op("x") + b"h\xf2ss", TWICE),
    "shared_dicts": (op("model") + b"(" + doubled(60, b"}", b"}(K\0h@K\1h@u") + b"ts", TWICE),
    "put_after_the_fact": (weights(b"](" + op("a") + b"q\1ee" + b"q\1h\1"), TWICE),
    "a_list_within_itself": (weights(b"]q\xf0h\xf0a"), TWICE),
    "tuple_as_value": (model(b")"), OTHER),
    "class_as_value": (weights(b"ctorch\nFloatStorage\n"), OTHER),
    "ordered_dict": (model(b"ccollections\nOrderedDict\n)R"), OTHER),
    "newobj": (model(b"ccollections\nOrderedDict\n)\x81"), OTHER),
    "build": (model(b"ccollections\nOrderedDict\n)R}b"), OTHER),
    "too_many_instructions": (weights(b"](" + b"]" * 8_000_000 + b"e"), "1,000,000 instructions"),
    "sets": (weights(b"](" + b"\x8f" * 900_000 + b"e"), OTHER),
    "half_a_character": (model(b"X\x03\x00\x00\x00\xed\xa0\x80"), "text that no terminal"),
    "a_large_number": (model(op(10**600)), "model: expected finite numbers"),
    "deep_lists": (model(b"]" * 100_000 + b"a" * 99_999), "model: expected finite numbers"),
    "append_to_a_dict": (model(b"}Na"), UNREAD),
    "half_a_pair": (model(b"}(" + op("a") + b"u"), UNREAD),
    "no_mark": (b"t" * 20, OTHER),
    "unfinished": (b"(", UNREAD),
}  # fmt: skip


BARE = to_bytes(make_checkpoint())[: -len(LABEL) - DIGITS - 2] + b"\0\0"  # without comment
FOUND = records(BARE)


def compressed():
    last = BARE.rfind(b"PK\1\2")  # an entry of the directory, the compression at 10
    return sealed(BARE[: last + 10] + b"\x08" + BARE[last + 11 :])


def moved_directory():
    place = len(BARE) - 98 + 64
    return sealed(BARE[:-98] + bytes(64) + BARE[-98:-34] + struct.pack("<QL", place, 1) + BARE[-22:])


def shared_storage():
    """30,000 tensors of 20 MB that all show the same 20 MB."""
    whole = torch_saved(contents() | {"model_state": {"x": torch.zeros(5_000_000)}})
    shown = tensor((2500, 2000), (1, 2500), 5_000_000, key="0")
    return with_more(op("model_state") + b"}(" + b"".join(op(str(n)) + shown for n in range(30_000)) + b"us", whole)


# Name -> how to make the file, the reason that is given; "" for those that are read.
ARCHIVES = {
    "good": (lambda: sealed(BARE), ""),
    "large_text": (lambda: with_more(model(op("a" * (2**24 - 20_000)))), ""),
    "many_dicts": (lambda: with_more(model(b"](" + b"}" * 900_000 + b"e")), ""),
    "transposed": (lambda: with_more(weights(tensor((2, 8), (1, 2), 16))), ""),
    "deflated": (lambda: sealed(zipped(zipfile.ZIP_DEFLATED, 400)), FOREIGN),
    "deflated_without_checksum": (lambda: zipped(zipfile.ZIP_DEFLATED, 400), STRANGE),
    "another_project": (lambda: torch_saved({"state_dict": {"a": torch.zeros(3)}, "epoch": 3}), STRANGE),
    "legacy": (lambda: torch_saved(contents(), _use_new_zipfile_serialization=False), STRANGE),
    "bare_pickle": (lambda: pickle.dumps({"epoch": 3}), STRANGE),
    "pickle_protocol_4": (lambda: sealed(torch_saved(contents(), pickle_protocol=4)), TWICE),
    "compressed": (compressed, "compressed records"),
    "two_of_one_name": (lambda: sealed(torch_archive(FOUND | {"DATA.pkl": FOUND["data.pkl"]})), "overlap or repeat"),
    "many_records": (lambda: sealed(torch_archive(FOUND | {f"x{n}": b"" for n in range(10_001)})), "10,000 records"),
    "large_pickle": (lambda: sealed(torch_archive(FOUND | {"data.pkl": bytes(2**24 + 1)})), "data.pkl of at most"),
    "no_pickle": (lambda: sealed(torch_archive({"a": b"b"})), "without data.pkl"),
    "no_records": (lambda: sealed(torch_archive({})), "without data.pkl"),
    "script": (lambda: sealed(torch_archive(FOUND | {"constants.pkl": b"\x80\x02)."})), UNREAD),
    "byteorder": (lambda: sealed(torch_archive(FOUND | {"byteorder": b"middle"})), UNREAD),
    "moved_directory": (moved_directory, FOREIGN),
    "large_directory": (lambda: sealed(BARE[:-58] + struct.pack("<Q", 2**42) + BARE[-50:]), FOREIGN),
    "wrong_tensors": (
        lambda: with_more(op("model_state") + b"}" + many(b"N") + b"s"),
        "a tensor as '000000', found None",
    ),
    "wrong_versions": (lambda: with_more(op("versions") + b"}" + many(b"N") + b"s"), "at most 10,000 entries"),
    "wrong_keys": (lambda: with_more(many(b"N")), "found '000000'"),
    "wrong_rows": (lambda: with_more(op("history") + b"](" + b"N" * 900_000 + b"es"), "a row of epoch 1"),
    "shared_storage": (shared_storage, SHARED),
}


FILES = ARCHIVES | {name: (partial(with_more, instructions), reason) for name, (instructions, reason) in BOMBS.items()}


def outcomes(paths):
    """What becomes of each file, by name, and the error message; it is read in bounded time and memory."""
    command = [sys.executable, "-W", "error", "-m", "tests.hostile.measure", *paths]
    report = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    slowest, largest = (max(result[place] for result in report.values()) for place in (2, 3))
    print(f"hostile checkpoints: {len(report)}, at most {largest:.0f} MB more at the peak, slowest {slowest:.2f} s")
    for path in paths:
        *_, seconds, growth = report[path.name]
        assert growth < BOUND + path.stat().st_size / 2**20, path.name
        assert seconds < SECONDS, path.name
    return {name: (outcome, text) for name, (outcome, text, *_) in report.items()}


def check(folder, names):
    for name in names:
        (folder / name).write_bytes(FILES[name][0]())
    for name, (outcome, text) in outcomes([folder / name for name in names]).items():
        reason = FILES[name][1]
        assert (outcome, reason in text) == ("refused" if reason else "read", True), (name, outcome, text)


def test_one_file_of_each_kind_neither_runs_nor_hangs_nor_fills_the_memory(tmp_path):
    bombs = ["bytearray", "terabytes_claimed", "terabytes_by_stride_0", "shared_tuples_as_key", "shared_lists"]
    strangers = ["another_project", "legacy", "bare_pickle"]
    check(tmp_path, ["good", "os_system", *bombs, *strangers, "deflated", "wrong_tensors"])


@pytest.mark.slow
def test_no_file_runs_or_hangs_or_fills_the_memory(tmp_path):
    check(tmp_path, FILES)


@pytest.mark.parametrize("seal", [sealed, lambda content: content], ids=["with checksum", "without"])
def test_a_command_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, seal):
    marker, path = tmp_path / "it_ran", tmp_path / "c.pt"
    path.write_bytes(seal(torch_saved(contents() | {"versions": Command(marker)})))
    with pytest.raises(CheckpointError, match=r"c\.pt: refused and not executed: it is a") as caught:
        read_checkpoint(path)
    assert type(caught.value) is CheckpointError
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the command would have worked"


BROKEN = {
    "empty": b"",
    "text": b"These are not the weights you are looking for.\n" * 100,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "safetensors": safetensors_save({"a": torch.zeros(3)}),
    "zeros": bytes(100_000),
    "cut_seal": sealed(torch_saved(contents()))[:-1],
    "half_a_zip": BARE[: len(BARE) // 2],
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_archive_is_damaged(tmp_path, name):
    (tmp_path / "c.pt").write_bytes(BROKEN[name])
    found = f"c.pt: damaged: expected a zip archive that ends with its checksum, found {len(BROKEN[name]):,} bytes"
    with pytest.raises(DamagedCheckpointError, match=found):
        read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.mkdir(), "found a folder"),
        (os.mkfifo, "found no file"),
        (lambda path: path.symlink_to("nowhere"), "found nothing"),
        (lambda path: path.symlink_to("/dev/zero"), "found no file"),
        (lambda path: path.symlink_to("c.pt"), "found nothing"),
    ],
    ids=["folder", "pipe", "dangling link", "device", "link to itself"],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make, found):
    make(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=found):
        read_checkpoint(tmp_path / "c.pt")


def mutate(content, seed):
    """Some bytes replaced, removed or added, often where the pickle or the zip directory lie."""
    draw, size = random.Random(seed), len(content)
    start = draw.choice([draw.randrange(size), draw.randrange(5000), size - 1 - draw.randrange(4000)])
    removed, added = draw.choice([(1, 1), (1, 1), (16, 16), (500, 500), (1, 0), (size, 0), (0, 1), (0, 5000)])
    return content[:start] + draw.randbytes(added) + content[start + removed :]


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_mutations_are_damage_and_sealed_again_never_worse_than_refused(tmp_path, count):
    whole = sealed(BARE)
    for seed in range(count):
        (tmp_path / f"sealed again {seed}").write_bytes(sealed(mutate(BARE, seed)))
        if (mutated := mutate(whole, seed)) != whole:
            (tmp_path / f"plain {seed}").write_bytes(mutated)
    report = outcomes([*tmp_path.iterdir()])
    found = Counter((name.rpartition(" ")[0], outcome) for name, (outcome, _) in report.items())
    print("mutated checkpoints:", dict(found))
    assert found.keys() == {("plain", "damaged"), ("sealed again", "refused"), ("sealed again", "read")}
