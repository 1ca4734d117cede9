import json
import os
import struct

import pytest
import torch
from kedro.io import DatasetError

from vae_mnist.datasets.tensors import TensorsDataset
from vae_mnist.errors import DataError


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


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        found = data_error(TensorsDataset(filepath=str(path)))
        assert f"{path}: expected a safetensors file, found none. Run kedro run first." in found


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
        {"y": torch.zeros(10)}, {"x": torch.arange(10).view(2, 5).T}, {"x": torch.zeros(10), "y": torch.ones(3)}, {},
    ],
)  # fmt: skip
def test_other_tensors_are_written(tmp_path, tensors):
    dataset = TensorsDataset(filepath=str(tmp_path / "sub" / "d.safetensors"))
    assert not dataset.exists()
    dataset.save({"x": torch.zeros(10)})
    dataset.save(tensors)
    loaded = dataset.load()
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert loaded[name].numpy().tobytes() == tensor.numpy().tobytes()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["d.safetensors"]


def test_a_damaged_tensor_file_is_replaced(tmp_path):
    dataset = TensorsDataset(filepath=str(tmp_path / "d.safetensors"))
    (tmp_path / "d.safetensors").write_bytes(b"no tensors")
    dataset.save({"x": torch.ones(10)})
    assert dataset.load()["x"].sum() == 10
    assert "d.safetensors" in str(dataset)
