import json
import os
import resource
import shutil
import struct
from base64 import b64decode

import pandas as pd
import pytest
import torch
from kedro.io import DatasetError
from matplotlib.figure import Figure
from PIL import Image
from plotly.graph_objects import Figure as PlotlyFigure

from vae_mnist.datasets.animation import AnimationDataset
from vae_mnist.datasets.checkpoints import CheckpointsDataset
from vae_mnist.datasets.pictures import FigureDataset, ImageDataset, PlotlyDataset
from vae_mnist.datasets.tables import CSVDataset, JSONDataset
from vae_mnist.datasets.tensors import TensorsDataset
from vae_mnist.errors import CheckpointError, DamagedCheckpointError, DataError, WriteError
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint


@pytest.fixture
def checkpoint(checkpoint_path):
    return read_checkpoint(checkpoint_path)


def at(checkpoint, epoch):
    """The same checkpoint as if it were of another epoch."""
    row = checkpoint["history"][0]
    return checkpoint | {"epoch": epoch, "history": [row | {"epoch": number} for number in range(1, epoch + 1)]}


def epochs(checkpoint, *numbers):
    return {f"vae_epoch_{number:03d}": at(checkpoint, number) for number in numbers}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_checkpoints_come_back_oldest_first_and_are_read_when_asked(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    write_checkpoint(at(checkpoint, 997), tmp_path / "vae_epoch_997.pt")
    dataset.save(epochs(checkpoint, 998, 999, 1000))
    (tmp_path / "vae_epoch_997.pt").unlink()
    loaded = dataset.load()
    assert list(loaded) == ["vae_epoch_998", "vae_epoch_999", "vae_epoch_1000"]
    assert loaded["vae_epoch_1000"]()["epoch"] == 1000


def test_a_checkpoint_can_be_taken_as_late_as_it_is_written(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save({"vae_epoch_001": lambda: at(checkpoint, 1)})
    assert dataset.load()["vae_epoch_001"]()["epoch"] == 1


def test_starting_over_never_mixes_old_epochs_with_new_ones(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1, 2, 3))
    dataset.save(epochs(checkpoint | {"config_hash": "new"}, 1))
    assert list(dataset.load()) == ["vae_epoch_001"]
    assert dataset.load()["vae_epoch_001"]()["config_hash"] == "new"


def test_starting_over_removes_the_newest_old_epoch_first(tmp_path, checkpoint):
    """Broken off half-way, what is left is the beginning of the old training."""
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1, 2, 3))
    (tmp_path / "vae_epoch_002.pt").unlink()
    (tmp_path / "vae_epoch_002.pt").mkdir()  # cannot be removed as a file
    with pytest.raises(DatasetError, match=r"vae_epoch_002.pt: cannot be removed: "):
        dataset.save(epochs(checkpoint, 1))
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]


def test_an_epoch_that_cannot_be_written_leaves_the_old_one_of_its_number(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1))
    with pytest.raises(DatasetError):
        dataset.save(epochs(checkpoint | {"versions": object()}, 1))
    assert read_checkpoint(tmp_path / "vae_epoch_001.pt")["epoch"] == 1


def test_going_on_from_an_older_epoch_gives_no_newer_one(tmp_path, checkpoint):
    CheckpointsDataset(path=str(tmp_path)).save(epochs(checkpoint, 1, 2))
    found = CheckpointsDataset(path=str(tmp_path), required=False).load()
    assert [function()["epoch"] for function in found.values()] == [1, 2]


def test_going_on_keeps_the_epochs_so_far(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1))
    dataset.save(epochs(checkpoint, 2))
    assert list(dataset.load()) == ["vae_epoch_001", "vae_epoch_002"]


def test_the_epoch_before_may_be_the_only_one_left(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1, 2))
    (tmp_path / "vae_epoch_001.pt").unlink()
    dataset.save(epochs(checkpoint, 3))
    assert files(tmp_path) == ["vae_epoch_002.pt", "vae_epoch_003.pt"]


def test_a_folder_that_was_emptied_during_a_run_is_not_filled_up_as_if_nothing_had_happened(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path / "run"))
    dataset.save(epochs(checkpoint, 1, 2))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(DatasetError, match=r"vae_epoch_002.pt .*as epoch 3 was to be written, found no checkpoints"):
        dataset.save(epochs(checkpoint, 3))
    assert not (tmp_path / "run").exists()


def test_a_newest_epoch_that_was_deleted_during_a_run_is_missed_and_the_others_stay(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1, 2))
    (tmp_path / "vae_epoch_002.pt").rename(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"found vae_epoch_001.pt: files were moved .* what is still there is whole"):
        dataset.save(epochs(checkpoint, 3))
    assert files(tmp_path) == ["mine", "vae_epoch_001.pt"]


def test_going_on_sets_damaged_checkpoints_aside_and_takes_the_newest_whole_one(tmp_path, checkpoint, caplog):
    CheckpointsDataset(path=str(tmp_path)).save(epochs(checkpoint, 1, 2, 3))
    damage(tmp_path / "vae_epoch_002.pt")
    damage(tmp_path / "vae_epoch_003.pt")
    before = (tmp_path / "vae_epoch_003.pt").read_bytes()
    found = CheckpointsDataset(path=str(tmp_path), required=False).load()
    assert len(files(tmp_path)) == 3, "nothing is renamed before a checkpoint is read"
    assert found["vae_epoch_003"]()["epoch"] == 1
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt.damaged", "vae_epoch_003.pt.damaged"]
    assert (tmp_path / "vae_epoch_003.pt.damaged").read_bytes() == before
    newest, older = (record.getMessage() for record in caplog.records)
    assert "vae_epoch_003.pt: damaged: expected the checksum" in newest
    assert newest.endswith("It is now vae_epoch_003.pt.damaged.")
    assert "vae_epoch_002.pt: damaged" in older


def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_from(tmp_path, checkpoint, caplog):
    CheckpointsDataset(path=str(tmp_path)).save(epochs(checkpoint, 1))
    damage(tmp_path / "vae_epoch_001.pt")
    assert CheckpointsDataset(path=str(tmp_path), required=False).load()["vae_epoch_001"]() is None
    assert "It is now vae_epoch_001.pt.damaged." in caplog.text


def test_what_was_set_aside_before_is_not_overwritten(tmp_path, checkpoint, caplog):
    (tmp_path / "vae_epoch_001.pt.damaged").symlink_to("nowhere")
    for _ in range(2):
        CheckpointsDataset(path=str(tmp_path)).save(epochs(checkpoint, 1))
        damage(tmp_path / "vae_epoch_001.pt")
        CheckpointsDataset(path=str(tmp_path), required=False).load()["vae_epoch_001"]()
    assert files(tmp_path) == [f"vae_epoch_001.pt.damaged{end}" for end in ("", ".2", ".3")]
    assert (tmp_path / "vae_epoch_001.pt.damaged").is_symlink()


def test_a_refused_checkpoint_is_not_set_aside(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path), required=False)
    dataset.save(epochs(checkpoint, 1))
    torch.save(checkpoint, tmp_path / "vae_epoch_002.pt")
    with pytest.raises(CheckpointError, match="no checksum"):
        dataset.load()["vae_epoch_002"]()
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]


def test_where_checkpoints_are_required_damage_is_an_error_and_nothing_is_renamed(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1))
    damage(tmp_path / "vae_epoch_001.pt")
    with pytest.raises(DamagedCheckpointError, match="kedro run sets it aside and goes on from the one before"):
        dataset.load()["vae_epoch_001"]()
    assert files(tmp_path) == ["vae_epoch_001.pt"]


def test_other_files_in_the_folder_are_left_alone(tmp_path, checkpoint):
    (tmp_path / "vae_epoch_best.pt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "vae_epoch_001.pt", "vae_epoch_best.pt"]
    assert list(dataset.load()) == ["vae_epoch_001"]


def test_no_checkpoints_are_an_error_only_where_they_are_required(tmp_path):
    required = CheckpointsDataset(path=str(tmp_path / "z16"))
    assert not required.exists()
    with pytest.raises(DatasetError, match=r"no checkpoints of run 'z16' under .*z16: run kedro run first"):
        required.load()
    optional = CheckpointsDataset(path=str(tmp_path / "z16"), required=False)
    assert optional.exists()
    assert optional.load() == {}


def test_a_checkpoint_under_another_epochs_name_is_refused(tmp_path, checkpoint):
    with pytest.raises(DatasetError, match="expected the name vae_epoch_002 for epoch 2, got 'vae_epoch_007'"):
        CheckpointsDataset(path=str(tmp_path)).save({"vae_epoch_007": checkpoint})


def test_tensors_come_back_bit_for_bit(tmp_path):
    data = {"images": torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8), "labels": torch.tensor([1, 2, 3, 4])}
    dataset = TensorsDataset(filepath=str(tmp_path / "sub" / "d.safetensors"))
    assert not dataset.exists()
    dataset.save(data)
    loaded = dataset.load()
    assert loaded.keys() == data.keys()
    assert all(torch.equal(loaded[key], data[key]) and loaded[key].dtype == data[key].dtype for key in data)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["d.safetensors"]


def test_tensors_that_are_mapped_survive_a_new_file_of_the_name(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    dataset.save({"x": torch.ones(1000)})
    mapped = dataset.load()["x"]
    dataset.save({"x": torch.zeros(10)})
    assert mapped.sum() == 1000


def data_error(dataset):
    """The project's own error behind Kedro's."""
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, DataError)
    return str(caught.value.__cause__)


def test_a_missing_tensor_file_is_named(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    assert "d.safetensors: no such file. Run kedro run first." in data_error(dataset)


def test_a_folder_in_place_of_a_tensor_file_is_named(tmp_path):
    assert "expected a safetensors file, found another thing" in data_error(TensorsDataset(filepath=str(tmp_path)))


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no tensors", struct.pack("<Q", 2**63) + b"{}", with_header(b"{" * 1000), with_header(b"\xff\xfe"),
        with_header({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        with_header({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}),
        with_header({"x": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 8]}}),
        with_header({"x": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}, "y": 3}),
        with_header({"x": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}),
    ],
)  # fmt: skip
def test_a_damaged_or_lying_tensor_file_is_named(tmp_path, content):
    (tmp_path / "d.safetensors").write_bytes(content)
    assert "but it cannot be read" in data_error(TensorsDataset(filepath=str(tmp_path / "d.safetensors")))


def test_every_cut_of_a_tensor_file_is_named(tmp_path):
    path = tmp_path / "d.safetensors"
    dataset = TensorsDataset(filepath=str(path))
    dataset.save({"x": torch.ones(10)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "but it cannot be read" in data_error(dataset)


def test_equal_tensors_are_not_written_again(tmp_path):
    path = tmp_path / "d.safetensors"
    dataset = TensorsDataset(filepath=str(path))
    dataset.save({"x": torch.zeros(10), "y": torch.ones(3)})
    before = path.stat()
    dataset.save({"y": torch.ones(3), "x": torch.zeros(10)})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": torch.full((10,), -0.0)}, {"x": torch.zeros(10, dtype=torch.int32)}, {"x": torch.zeros(2, 5)},
        {"y": torch.zeros(10)}, {"x": torch.arange(10).view(2, 5).T},
    ],
)  # fmt: skip
def test_other_tensors_are_written(tmp_path, tensors):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    dataset.save({"x": torch.zeros(10)})
    dataset.save(tensors)
    ((name, tensor),) = tensors.items()
    loaded = dataset.load()
    assert list(loaded) == [name]
    assert loaded[name].shape == tensor.shape
    assert loaded[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_tensors_that_are_no_longer_among_the_others_go(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    dataset.save({"x": torch.zeros(10), "y": torch.ones(3)})
    dataset.save({"x": torch.zeros(10)})
    assert list(dataset.load()) == ["x"]


def test_a_damaged_tensor_file_is_replaced(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    (tmp_path / "d.safetensors").write_bytes(b"no tensors")
    dataset.save({"x": torch.ones(10)})
    assert dataset.load()["x"].sum() == 10


def test_a_picture_comes_back_and_has_a_preview(tmp_path):
    picture = Image.effect_noise((20, 10), 50)
    dataset = ImageDataset(filepath=str(tmp_path / "sub" / "a.png"))
    dataset.save(picture)
    assert dataset.load() == picture
    assert b64decode(dataset.preview()) == (tmp_path / "sub" / "a.png").read_bytes()
    assert files(tmp_path / "sub") == ["a.png"]


def test_a_picture_is_not_synced_for_it_can_be_made_again(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "fsync")
    ImageDataset(filepath=str(tmp_path / "a.png")).save(Image.new("L", (2, 2)))
    with pytest.raises(DatasetError, match="fsync"):
        JSONDataset(filepath=str(tmp_path / "a.json")).save({})


def test_an_animation_shows_every_frame_for_its_time_and_loops(tmp_path):
    frames = []
    for grey, duration in ((0, 100), (120, 200), (250, 1000)):
        frame = Image.new("L", (8, 8), grey).quantize(4)
        frame.info["duration"] = duration
        frames.append(frame)
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    assert not dataset.exists()
    dataset.save(frames)
    assert dataset.load().startswith(b"GIF89a")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        durations = []
        for index in range(3):
            gif.seek(index)
            durations.append(gif.info["duration"])
    assert durations == [100, 200, 1000]


def test_an_animation_without_frames_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="at least one frame"):
        AnimationDataset(filepath=str(tmp_path / "a.gif")).save([])


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        (CSVDataset, "a.csv", pd.DataFrame({"x": range(10_000)})),
        (JSONDataset, "a.json", ["x" * 10_000]),
        (PlotlyDataset, "b.json", PlotlyFigure(layout={"title": "x" * 10_000})),
        (FigureDataset, "a.png", Figure()),
        (ImageDataset, "b.png", Image.effect_noise((100, 100), 50)),
    ],
)
def test_kedros_own_datasets_keep_the_old_file_where_the_disk_takes_no_more(tmp_path, kind, name, data):
    (tmp_path / name).write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DatasetError) as caught:
            kind(filepath=str(tmp_path / name)).save(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value.__cause__, WriteError)
    assert f"{name}: cannot be written: File too large." in str(caught.value.__cause__)
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize(
    "dataset",
    [
        CheckpointsDataset(path="x/y"),
        TensorsDataset(filepath="x/y"),
        AnimationDataset(filepath="x/y"),
    ],
)
def test_datasets_tell_where_they_lie(dataset):
    assert "x/y" in str(dataset)
