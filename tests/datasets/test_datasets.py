import pytest
import torch
from kedro.io import DatasetError
from PIL import Image

from vae_mnist.checkpoints import read_checkpoint
from vae_mnist.datasets import AnimationDataset, CheckpointsDataset, TensorsDataset


@pytest.fixture
def checkpoint(checkpoint_path):
    return read_checkpoint(checkpoint_path)


def epochs(checkpoint, *numbers):
    return {f"vae_epoch_{number:03d}": checkpoint | {"epoch": number} for number in numbers}


def test_checkpoints_come_back_oldest_first_and_are_read_when_asked(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 998, 999, 1000))
    loaded = dataset.load()
    assert list(loaded) == ["vae_epoch_998", "vae_epoch_999", "vae_epoch_1000"]
    assert loaded["vae_epoch_1000"]()["epoch"] == 1000


def test_a_checkpoint_can_be_taken_as_late_as_it_is_written(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save({"vae_epoch_001": lambda: checkpoint | {"epoch": 1}})
    assert dataset.load()["vae_epoch_001"]()["epoch"] == 1


def test_starting_over_never_mixes_old_epochs_with_new_ones(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1, 2, 3))
    dataset.save(epochs(checkpoint | {"config_hash": "new"}, 1))
    assert list(dataset.load()) == ["vae_epoch_001"]
    assert dataset.load()["vae_epoch_001"]()["config_hash"] == "new"


def test_going_on_keeps_the_epochs_so_far(tmp_path, checkpoint):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(checkpoint, 1))
    dataset.save(epochs(checkpoint, 2))
    assert list(dataset.load()) == ["vae_epoch_001", "vae_epoch_002"]


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


def test_missing_and_damaged_tensor_files_are_named(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    with pytest.raises(DatasetError, match=r"d.safetensors: no such file"):
        dataset.load()
    dataset.save({"x": torch.ones(100)})
    path = tmp_path / "d.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"expected a safetensors file, but it cannot be read"):
        dataset.load()


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
    "dataset",
    [
        CheckpointsDataset(path="x/y"),
        TensorsDataset(filepath="x/y"),
        AnimationDataset(filepath="x/y"),
    ],
)
def test_datasets_tell_where_they_lie(dataset):
    assert "x/y" in str(dataset)
