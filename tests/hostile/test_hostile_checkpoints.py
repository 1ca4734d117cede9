"""Files that a stranger made, or a bad disk: nothing of them runs, nothing hangs, memory stays bounded."""

import io
import json
import logging
import math
import os
import pickle
import pickletools
import random
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save as safetensors_save

from vae_mnist import load_model
from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.archives import seal
from vae_mnist.storage.checkpoints import KEYS, read_checkpoint

from ..helpers.compare import same
from ..helpers.project import ROOT, Project

BOUND = 150  # MB of memory beyond a file's own size, whatever the file is


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with a run 'unbroken' of three epochs; tests copy that run."""
    project = Project(tmp_path_factory.mktemp("trained") / "project")
    assert project.invoke("--pipelines=ingest,train,evaluate", run="unbroken", train__epochs=3).exit_code == 0
    return project


@pytest.fixture(scope="module")
def good(trained):
    return trained.path("06_models", "unbroken", "vae_epoch_003.pt")


@pytest.fixture
def checkpoint(good):
    return read_checkpoint(good)


@pytest.fixture
def run(trained):
    """A copy of the run: its name and its folder."""
    runs = trained.path("06_models")
    name = f"copy{len(list(runs.iterdir()))}"
    folder = runs / name
    shutil.copytree(trained.path("06_models", "unbroken"), folder)
    return name, folder


def sealed(archive):
    """With a correct checksum, as anyone can compute it."""
    buffer = io.BytesIO(archive)
    seal(buffer)
    return buffer.getvalue()


def torch_saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def records(path):
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def torch_archive(contents):
    """An archive as torch writes it, of any records."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, content in contents.items():
        if name not in {"version", ".data/serialization_id"}:  # torch adds them
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return buffer.getvalue()


def op(value):
    """Pickle instructions that push a plain value."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def tensor(size, stride, count, key="extra", kind="FloatStorage", offset=0, hooks=b")"):
    """Pickle instructions that push a tensor."""
    storage = b"(" + op("storage") + f"ctorch\n{kind}\n".encode() + op(key) + op("cpu") + op(count) + b"tQ"
    shape = op(offset) + op(size) + op(stride) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + shape + b"ccollections\nOrderedDict\n" + hooks + b"RtR"


def with_extra(good, instructions):
    """A perfect checkpoint with one more key, whose value is what the instructions push."""
    contents = records(good)
    contents["data.pkl"] = contents["data.pkl"][:-1] + op("extra") + instructions + b"s."
    return sealed(torch_archive(contents | {"data/extra": bytes(64)}))


class Command:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("kind", ["alone", "in a checkpoint", "in a checkpoint with a checksum"])
def test_a_command_in_a_pickle_is_refused_by_name_and_does_not_run(tmp_path, checkpoint, kind):
    marker, path = tmp_path / "it_ran", tmp_path / "c.pt"
    payload = Command(marker) if kind == "alone" else checkpoint | {"versions": Command(marker)}
    content = torch_saved(payload)
    path.write_bytes(sealed(content) if "checksum" in kind else content)
    with pytest.raises(CheckpointError, match=r"refused, nothing of it was run: .* asks for .*\.system\b") as caught:
        load_model(path)
    assert "Accepted is what vae_mnist writes: one dict of tensors, numbers and text" in str(caught.value)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the command would have worked"


@pytest.mark.parametrize("pipeline", ["train", "evaluate", "report", "generate"])
def test_no_run_runs_a_command_in_a_checkpoint(trained, run, checkpoint, tmp_path, pipeline):
    name, folder = run
    marker = tmp_path / "it_ran"
    content = sealed(torch_saved(checkpoint | {"versions": Command(marker)}))
    (folder / "vae_epoch_003.pt").write_bytes(content)
    shutil.copytree(trained.path("07_model_output", "unbroken"), trained.path("07_model_output", name))
    if pipeline == "train":
        result = trained.run("--pipeline=train", run=name, train__epochs=4, check=False)
        code, output = result.returncode, result.stderr
    else:
        result = trained.invoke(f"--pipeline={pipeline}", run=name)
        code, output = result.exit_code, result.output
    assert code == 1
    assert "Traceback" not in output
    assert "vae_epoch_003.pt: refused, nothing of it was run: it is a pickle that asks for posix.system." in output
    assert not marker.exists()
    assert (folder / "vae_epoch_003.pt").read_bytes() == content
    assert len(list(folder.glob("vae*"))) == 3


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_by_the_name_of_what_it_asks_for(tmp_path, protocol):
    marker = tmp_path / "it_ran"
    (tmp_path / "c.pt").write_bytes(pickle.dumps({"model": Command(marker)}, protocol))
    with pytest.raises(CheckpointError, match=r"nothing of it was run: it is a bare pickle .*\.system"):
        load_model(tmp_path / "c.pt")
    assert not marker.exists()


def zipped(compression, megabytes=1):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, archive.open("archive/data.pkl", "w") as record:
        for _ in range(megabytes):
            record.write(bytes(10**6))
    return buffer.getvalue()


def foreign_model():
    with torch.random.fork_rng(devices=[]):
        return torch.nn.Linear(2, 2)


STRANGERS = {
    "legacy": torch_saved({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False),
    "another_project": torch_saved({"state_dict": foreign_model().state_dict(), "epoch": 3}),
    "a_model": torch_saved(foreign_model()),
    "a_tensor": torch_saved(torch.zeros(3)),
    "sealed_tensor": sealed(torch_saved(torch.zeros(3))),
    "sealed_foreign_dict": sealed(torch_saved({"epoch": 3, "weights": torch.zeros(3)})),
    "sealed_list": sealed(torch_saved([1, 2])),
    "sealed_pickle_protocol_4": sealed(torch_saved({"epoch": 3}, pickle_protocol=4)),
    "zip": zipped(zipfile.ZIP_STORED),
    "sealed_zip": sealed(zipped(zipfile.ZIP_STORED)),
    "sealed_deflated": sealed(zipped(zipfile.ZIP_DEFLATED)),
}  # fmt: skip
BROKEN = {
    "empty": b"",
    "text": b"These are not the weights you are looking for.\n" * 100,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "safetensors": safetensors_save({"a": torch.zeros(3)}),
    "zeros": bytes(100_000),
    "cut_seal": sealed(torch_saved({"a": 1}))[:-1],
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_others_write_is_refused(tmp_path, name):
    (tmp_path / "c.pt").write_bytes(STRANGERS[name])
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "c.pt")
    assert type(caught.value) is CheckpointError


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_archive_is_damaged(tmp_path, name):
    (tmp_path / "c.pt").write_bytes(BROKEN[name])
    with pytest.raises(DamagedCheckpointError, match="damaged"):
        load_model(tmp_path / "c.pt")


def test_a_torchscript_archive_is_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # torch's own
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "c.pt")
    for content in ((tmp_path / "c.pt").read_bytes(), sealed((tmp_path / "c.pt").read_bytes())):
        (tmp_path / "c.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"refused, nothing of it was run"):
            load_model(tmp_path / "c.pt")


def test_the_dict_of_another_project_is_called_by_its_name(tmp_path):
    (tmp_path / "c.pt").write_bytes(STRANGERS["another_project"])
    with pytest.raises(CheckpointError, match="no checksum, so another program or an older version wrote it"):
        load_model(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda folder: (folder / "c.pt").mkdir(), "found a folder"),
        (lambda folder: os.mkfifo(folder / "c.pt"), "found no file"),
        (lambda folder: (folder / "c.pt").symlink_to("nowhere"), "found nothing"),
        (lambda folder: (folder / "c.pt").symlink_to("/dev/zero"), "found no file"),
        (lambda folder: (folder / "c.pt").symlink_to("c.pt"), "cannot be read"),
    ],
    ids=["folder", "pipe", "dangling link", "device", "link to itself"],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make, found):
    make(tmp_path)
    with pytest.raises(CheckpointError, match=found):
        load_model(tmp_path / "c.pt")


def laughs(levels):
    """A list of two lists of two lists …: 2 ** levels of them in a few bytes, each put to memo and taken twice."""
    return b"]" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(100, 100 + levels))


BOMBS = {
    "os_system": b"cposix\nsystem\n" + op("true") + b"\x85R",
    "bytearray": b"cbuiltins\nbytearray\n" + op(10**12) + b"\x85R",
    "counter": b"ccollections\nCounter\n)R",
    "parameter": b"ctorch.nn.parameter\nParameter\n)R",
    "terabytes_claimed": tensor((2**38,), (1,), 2**38),
    "terabytes_in_the_size": tensor((2**38,), (1,), 16),
    "terabytes_by_stride_0": tensor((2**38,), (0,), 16),
    "stride_0": tensor((16,), (0,), 16),
    "overlapping": tensor((4, 4), (1, 1), 16),
    "behind_its_storage": tensor((16,), (1,), 16, offset=2**40),
    "negative_size": tensor((-4, -4), (1, 1), 16),
    "size_of_texts": tensor(("a",), (1,), 16),
    "storage_of_another_tensor": tensor((64,), (1,), 16, key="7"),
    "storage_of_two_tensors": b"](" + 2 * tensor((16,), (1,), 16) + b"e",
    "storage_that_is_not_there": tensor((1,), (1,), 1, key="none"),
    "storage_of_another_type": tensor((16,), (1,), 16, kind="DoubleStorage"),
    "many_dimensions": tensor((16,) + (1,) * 5000, (1,) * 5001, 16),
    "copies_of_a_dict": tensor((16,), (1,), 16, hooks=b"]\x85"),
    "lists_in_lists": laughs(60),
    "tuples_in_tuples": b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(100, 160)),
    "tuples_in_tuples_as_key": b"})" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(100, 160)) + b"Ns",
    "deep_tuple_as_key": b"})" + b"\x85" * 100_000 + b"Ns",
    "tuple_as_value": b")",
    "a_list_within_itself": b"]q\xf0h\xf0a",
    "a_class_as_value": b"ctorch\nFloatStorage\n",
    "hooks_as_value": b"ccollections\nOrderedDict\n)R",
    "too_many_instructions": b"](" + b"]" * 1_100_000 + b"e",
    "half_a_character": b"X\x03\x00\x00\x00\xed\xa0\x80",
    "a_large_number": op(10**40),
    "newobj": b"ccollections\nOrderedDict\n)\x81",
    "build": b"ccollections\nOrderedDict\n)R}b",
    "append_to_a_dict": b"}Na",
    "half_a_pair": b"}(" + op("a") + b"u",
    "no_mark": b"t" * 20,
    "unfinished": b"(",
}


@pytest.fixture(scope="module")
def bombs(good, tmp_path_factory):
    """Every hostile file, each a few MB at most, and what came of loading it in a process of its own."""
    folder = tmp_path_factory.mktemp("bombs")
    files = {name: with_extra(good, instructions) for name, instructions in BOMBS.items()} | STRANGERS | BROKEN
    contents = records(good)
    whole = good.read_bytes()
    bare = whole[:-83] + b"\0\0"  # without comment
    first = bare.rfind(b"PK\1\2")  # the last record's entry in the directory, its flags at 8
    deflated = zipped(zipfile.ZIP_DEFLATED, 1000)
    files |= {
        "good": whole,
        "hidden_dim_65536": sealed(torch_saved(read_checkpoint(good) | {"hidden_dim": 65536, "model": {
            "name": "vae", "latent_dim": 4, "hidden_dim": 65536, "image_shape": [1, 28, 28]}})),
        "image_of_65536": sealed(torch_saved(read_checkpoint(good) | {"model": {
            "name": "vae", "latent_dim": 4, "hidden_dim": 16, "image_shape": [65536, 65536, 65536]}})),
        "epoch_of_millions": sealed(torch_saved(read_checkpoint(good) | {"epoch": 10**15})),
        "large_pickle": sealed(torch_archive(contents | {"data.pkl": b"\x80\x02}" + op("a" * 2**24) + b"Ns."})),
        "allowed_text": with_extra(good, op("a" * (2**24 - 10_000))),
        "allowed_dicts": with_extra(good, b"](" + b"}" * 900_000 + b"e"),
        "allowed_tensor": with_extra(good, tensor((2, 8), (1, 2), 16)),
        "many_records": sealed(torch_archive(contents | {f"x{n}": b"" for n in range(10_001)})),
        "two_of_one_name": sealed(torch_archive(contents | {"DATA.pkl": contents["data.pkl"]})),
        "no_pickle": sealed(torch_archive({"a": b"b"})),
        "no_records": sealed(torch_archive({})),
        "encrypted": sealed(bare[: first + 8] + bytes([bare[first + 8] | 1]) + bare[first + 9 :]),
        "deflated_gigabyte": sealed(deflated),
        "deflated_gigabyte_without_checksum": deflated,
        "script": sealed(torch_archive(contents | {"constants.pkl": b"\x80\x02)."})),
        "gap": sealed(
            bare[:-98] + bytes(64) + bare[-98:-34] + struct.pack("<QL", len(bare) - 98 + 64, 1) + bare[-22:]
        ),
        "byteorder": sealed(torch_archive(contents | {"byteorder": b"middle"})),
        "directory_of_terabytes": sealed(bare[:-58] + struct.pack("<Q", 2**42) + bare[-50:]),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.hostile.measure",
        "files",
        *(folder / name for name in files),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout), files


@pytest.mark.parametrize("name", BOMBS)
def test_no_instruction_that_a_checkpoint_has_no_use_of_is_accepted(bombs, name):
    outcome, text, *_ = bombs[0][name]
    assert (outcome, "refused, nothing of it was run" in text) == ("refused", True), text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bytearray", "builtins.bytearray"), ("counter", "collections.Counter"), ("os_system", "posix.system"),
        ("parameter", "torch.nn.parameter.Parameter"),
    ],
)  # fmt: skip
def test_objects_that_torch_would_let_through_are_refused_by_name(bombs, name, text):
    assert f"it is a pickle that asks for {text}." in bombs[0][name][1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("encrypted", "compressed or encrypted records"), ("two_of_one_name", "records overlap or repeat"),
        ("many_records", "more than 10,000"), ("deflated_gigabyte", "torch.save did not write"),
        ("deflated_gigabyte_without_checksum", "torch.save did not write"), ("no_pickle", "without data.pkl"),
        ("gap", "torch.save did not write"), ("script", "a TorchScript archive"),
        ("large_pickle", "data.pkl of at most"), ("directory_of_terabytes", "torch.save did not write"),
        ("too_many_instructions", "more than 1,000,000 instructions"), ("hidden_dim_65536", "expected (65536, 784)"),
        ("image_of_65536", "expected (16, 281474976710656)"), ("epoch_of_millions", "a row of history for each"),
        ("sealed_list", "expected a dict"), ("sealed_tensor", "expected a dict, found Tensor"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_told_its_reason(bombs, name, text):
    assert text in bombs[0][name][1]


def test_hostile_files_are_refused_and_harmless_ones_read(bombs):
    outcomes = {name: result[0] for name, result in bombs[0].items() if name not in {*BOMBS, *STRANGERS, *BROKEN}}
    harmless = {"good", "allowed_text", "allowed_dicts", "allowed_tensor"}
    assert outcomes == {name: "model" if name in harmless else "refused" for name in outcomes}, bombs[0]


def test_no_file_takes_much_more_memory_than_its_size_or_much_time(bombs):
    measured, files = bombs
    grown, slowest = (max(result[place] for result in measured.values()) for place in (-1, -2))
    print(f"hostile checkpoints: {len(measured)}, at most {grown:.0f} MB more at the peak, slowest {slowest:.1f} s")
    large = {name: growth for name, (*_, growth) in measured.items() if growth > BOUND + len(files[name]) / 2**20}
    slow = {name: seconds for name, (*_, seconds, _) in measured.items() if seconds > 20}
    assert (large, slow) == ({}, {})


@pytest.mark.parametrize("key", KEYS)
def test_each_key_must_be_there_and_of_its_type(tmp_path, checkpoint, key):
    others = [None, 1, True, 1.5, "text", [], {}, torch.zeros(1)]
    allowed = {type(checkpoint[key])} | ({dict} if key == "scheduler_state" else set())
    wrong = [checkpoint | {key: other} for other in others if type(other) not in allowed]
    for content in [{name: checkpoint[name] for name in checkpoint if name != key}, *wrong]:
        (tmp_path / "c.pt").write_bytes(sealed(torch_saved(content)))
        with pytest.raises(CheckpointError, match=key):
            load_model(tmp_path / "c.pt")


def changed(checkpoint, key, value):
    """With another value at "group.key" or "group.0.key"."""
    *groups, last = (int(part) if part.isdigit() else part for part in key.split("/"))
    inner = checkpoint
    for group in groups:
        inner = inner[group]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return checkpoint


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model_state/posterior.bias", torch.zeros(9), r"'posterior.bias': expected \(8,\) .*, found \(9,\) float32"),
        ("model_state/posterior.bias", torch.zeros(8, dtype=torch.float64), r"found \(8,\) float64"),
        ("model_state/posterior.bias", ..., "found no such tensor"),
        ("model_state/more", torch.zeros(8), r"'more': expected no such tensor, found \(8,\) float32"),
        ("model_state/posterior.bias", torch.full((8,), math.nan), "expected finite weights 'posterior.bias'"),
        ("model_state/posterior.bias", torch.full((8,), -math.inf), "expected finite weights 'posterior.bias'"),
        ("model_state/posterior.bias", [1.0] * 8, "expected a tensor as weights 'posterior.bias'"),
        ("model/image_shape", [1, 28], "image_shape"),
        ("model/image_shape", [1, 28, 10**9], "image_shape"),
        ("model/image_shape", "abc", "image_shape"),
        ("model/hidden_dim", 17, "hidden_dim as in model"),
        ("model/name", "gan", "describes no model"),
        ("model/more", 1, "describes no model"),
        ("settings/objective.beta", ..., "objective.beta"),
        ("settings/objective.beta", math.nan, "objective.beta"),
        ("settings/train.seed", [[1]], "settings of plain numbers and text"),
        ("epoch", 2, "a row of history for each of 2 epochs, found 3"),
        ("epoch", 0, "a row of history for each of 0 epochs"),
        ("history/1/epoch", 1, "epoch 2 in its row"),
        ("history/1/test_loss", math.nan, "epoch 2 in its row"),
        ("history/1/test_loss", "low", "epoch 2 in its row"),
        ("history/2/beta", ..., "epoch 3 in its row"),
        ("history/2", 5, "epoch 3 in its row"),
        ("dataset/title", ..., "dataset title"),
        ("dataset/sha256/train", ..., "dataset sha256"),
        ("dataset/sha256/train", 5, "dataset sha256"),
        ("dataset/counts", [], "dataset counts"),
        ("dataset/files", {"a": {"b": {"c": {}}}}, "dataset of plain numbers and text"),
        ("versions/torch", torch.zeros(3), "versions of plain numbers and text"),
        ("format_version", 7, "expected format_version 2, .*found 7"),
    ],
)  # fmt: skip
def test_contents_that_training_does_not_write_are_refused_by_name(tmp_path, checkpoint, key, value, text):
    (tmp_path / "c.pt").write_bytes(sealed(torch_saved(changed(checkpoint, key, value))))
    with pytest.raises(CheckpointError, match=text):
        load_model(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("optimizer_state/param_groups/0/lr", 1e9, "expected lr 0.001, found 1000000000.0"),
        ("optimizer_state/param_groups/0/betas", [0.0, 0.0], r"expected betas \[0.9, 0.999\], found \[0.0, 0.0\]"),
        ("optimizer_state/param_groups/0/maximize", True, "expected maximize False, found True"),
        ("optimizer_state/param_groups", [], "cannot be resumed"),
        ("optimizer_state/param_groups", 5, "cannot be resumed"),
        ("optimizer_state/state", ..., "cannot be resumed"),
        ("optimizer_state/state", [1], "cannot be resumed"),
        ("optimizer_state/state/3", ..., "'step of parameter 3': expected .* found no such tensor"),
        ("optimizer_state/state/3/exp_avg", ..., "'exp_avg of parameter 3': expected .* found no such tensor"),
        ("optimizer_state/state/3/exp_avg", 1.0, "'exp_avg of parameter 3': expected .*found float"),
        ("optimizer_state/state/3/exp_avg", torch.zeros(9), r"parameter 3': expected \(8,\) float32, found \(9,\)"),
        ("optimizer_state/state/3/exp_avg_sq", torch.full((8,), math.inf), "expected finite numbers"),
        ("model_state/posterior.bias", torch.zeros(8, dtype=torch.float64), r"expected \(8,\) .* float64"),
        ("rng_state", torch.zeros(5056, dtype=torch.uint8), "cannot be resumed"),
        ("rng_state", torch.zeros(10, dtype=torch.uint8), "cannot be resumed"),
        ("scaler_state/scale", 1.0, "scaler_state"),
    ],
)  # fmt: skip
def test_a_run_does_not_go_on_from_what_training_does_not_write(trained, run, checkpoint, key, value, text, caplog):
    name, folder = run
    (folder / "vae_epoch_003.pt").write_bytes(sealed(torch_saved(changed(checkpoint, key, value))))
    result = trained.invoke("--pipeline=train", run=name, train__epochs=4)
    assert result.exit_code == 1
    assert "epoch 3 cannot be resumed" in result.output
    assert re.search(text, result.output)
    assert sorted(path.name for path in folder.glob("vae*")) == [f"vae_epoch_00{n}.pt" for n in (1, 2, 3)]


def flip(path, seed):
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize(("damaged", "seed"), [((3,), 1), ((3,), 2), ((3,), 3), ((2, 3), 4), ((1, 2, 3), 5)], ids=str)
def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_ends_as_an_unbroken_one(
    trained, run, good, damaged, seed, caplog
):
    name, folder = run
    for epoch in damaged:
        flip(folder / f"vae_epoch_00{epoch}.pt", seed)
    with caplog.at_level(logging.WARNING):
        result = trained.invoke("--pipeline=train", run=name, train__epochs=3)
    assert result.exit_code == 0
    warnings = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert [message.rpartition("It is now ")[2] for message in warnings] == [
        f"vae_epoch_00{epoch}.pt.damaged." for epoch in reversed(damaged)
    ]
    assert sorted(path.name for path in folder.glob("vae*")) == sorted(
        [f"vae_epoch_00{epoch}.pt" for epoch in (1, 2, 3)] + [f"vae_epoch_00{epoch}.pt.damaged" for epoch in damaged]
    )
    assert same(read_checkpoint(good), read_checkpoint(folder / "vae_epoch_003.pt"))


def test_starting_over_reads_nothing_and_sets_nothing_aside(trained, run, good, caplog):
    name, folder = run
    flip(folder / "vae_epoch_003.pt", 1)
    assert trained.invoke("--pipeline=train", run=name, train__epochs=3, train__resume="false").exit_code == 0
    assert "damaged" not in caplog.text
    assert sorted(path.name for path in folder.glob("vae*")) == [f"vae_epoch_00{n}.pt" for n in (1, 2, 3)]
    assert same(read_checkpoint(good), read_checkpoint(folder / "vae_epoch_003.pt"))


@pytest.mark.parametrize("pipeline", ["evaluate", "report", "generate"])
def test_where_nothing_is_trained_damage_is_an_error_that_says_what_to_do(trained, run, pipeline):
    name, folder = run
    history = trained.path("07_model_output", name)
    shutil.copytree(trained.path("07_model_output", "unbroken"), history)
    flip(folder / "vae_epoch_003.pt", 1)
    result = trained.invoke(f"--pipeline={pipeline}", run=name)
    assert result.exit_code == 1
    assert "vae_epoch_003.pt: damaged: " in result.output
    assert "kedro run sets it aside and goes on from the one before" in result.output
    assert sorted(path.name for path in folder.glob("vae*")) == [f"vae_epoch_00{n}.pt" for n in (1, 2, 3)]


@pytest.mark.slow
def test_five_hundred_mutations_are_damage_and_sealed_again_never_worse_than_refused(good, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "tests.hostile.measure", "mutations", good, tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counts, _, seconds, growth = json.loads(result.stdout)
    print("mutated checkpoints:", counts, f"{seconds:.1f} s, {growth:.0f} MB more at the peak")
    assert counts["plain"].keys() == {"damaged"}
    assert counts["sealed again"].keys() == {"refused", "model"}
    assert min(sum(outcomes.values()) for outcomes in counts.values()) > 480
    assert growth < BOUND
    assert seconds < 60
