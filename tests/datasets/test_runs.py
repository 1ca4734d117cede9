import json
import logging

import pytest
import torch
from kedro.io import DatasetError
from safetensors.torch import save_file

from vae_mnist.datasets.runs import RunsDataset
from vae_mnist.errors import CheckpointError
from vae_mnist.storage.checkpoints import write_checkpoint

from ..helpers.checkpoints import make_checkpoint

LOSS = {"name": "loss", "value": 1.5, "unit": "nats per image", "better": "lower", "data": "here"}
RECORD = {"pipelines": ["train"], "parameters": {"train": {"seed": 1}}, "cpu_seconds": 2.5}
BOUNDS = {
    name: value
    for bound in ("neg_elbo", "importance_weighted_nll")
    for name, value in ((bound, torch.ones(3)), (f"{bound}_images", torch.zeros(32, dtype=torch.uint8)))
}


@pytest.fixture
def write(tmp_path):
    def write_file(run, name, content):
        path = tmp_path / "07_model_output" / run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        elif isinstance(content, dict):
            save_file(content, path)
        else:
            path.write_bytes(content)

    return write_file


def runs(tmp_path):
    return RunsDataset(path=str(tmp_path)).load()


def test_the_files_of_each_run_are_read(tmp_path, write):
    write("b", "metrics.json", [LOSS])
    write("a", "run_record.json", [RECORD])
    write("a", "metrics.json", [LOSS, LOSS])
    write("a", "image_bounds.safetensors", BOUNDS)
    (tmp_path / "06_models" / "a").mkdir(parents=True)
    for epoch in (2, 10):
        write_checkpoint(make_checkpoint(epoch), tmp_path / "06_models" / "a" / f"vae_epoch_{epoch:03d}.pt")
    found = runs(tmp_path)
    assert list(found) == ["a", "b"]
    measured, (process,), of_images, remarks = found["a"].files()
    assert [each.value for each in measured] == [1.5, 1.5]
    assert process.cpu_seconds == 2.5
    assert of_images["neg_elbo"].tolist() == [1, 1, 1]
    assert remarks == []
    assert found["a"].newest().epoch == 10
    assert found["b"].files().remarks == ["no run_record.json"]
    with pytest.raises(CheckpointError, match="no checkpoints of run 'b'"):
        found["b"].newest()


@pytest.mark.parametrize("name", ["a b", ".hidden", "comparison", "con", "x" * 65])
def test_folders_that_no_run_can_have_are_passed_over(tmp_path, write, name):
    write(name, "metrics.json", [LOSS])
    (tmp_path / "07_model_output" / "empty").mkdir()
    dataset = RunsDataset(path=str(tmp_path))
    assert dataset.load() == {}
    assert not dataset.exists()
    assert dataset.missing() == f"no runs under {tmp_path / '07_model_output'}: run kedro run first"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", "{"), ("metrics.json", [LOSS | {"value": None}]), ("metrics.json", {}),
        ("run_record.json", "["), ("run_record.json", [{"parameters": 5}]),
        ("image_bounds.safetensors", b"no tensors"),
        ("image_bounds.safetensors", {"neg_elbo": torch.ones(3)}),
        ("image_bounds.safetensors", BOUNDS | {"neg_elbo": torch.tensor([1.0, torch.nan])}),
        ("image_bounds.safetensors", BOUNDS | {"neg_elbo": torch.ones(3, dtype=torch.float64)}),
        ("image_bounds.safetensors", BOUNDS | {"neg_elbo": torch.ones(0)}),
        ("image_bounds.safetensors", BOUNDS | {"importance_weighted_nll": torch.ones(3, 1)}),
        ("image_bounds.safetensors", BOUNDS | {"neg_elbo_images": torch.zeros(16, dtype=torch.uint8)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_damaged_file_is_named_in_a_warning_and_left_out(tmp_path, write, caplog, monkeypatch, file, content):
    write("a", "run_record.json", [RECORD])
    write("a", "metrics.json", [LOSS])
    write("a", "image_bounds.safetensors", BOUNDS)
    write("a", file, content)
    monkeypatch.setattr(logging.getLogger("vae_mnist.datasets.runs"), "handlers", [caplog.handler])
    files = runs(tmp_path)["a"].files()
    (warning,) = {each.getMessage() for each in caplog.records if each.levelname == "WARNING"}
    assert warning.startswith("run a: left out: ")
    assert file in warning
    assert files.remarks == [f"{file} is damaged"]
    empty = [not files.measured, not files.processes, not files.of_images]
    assert empty == [file == name for name in ("metrics.json", "run_record.json", "image_bounds.safetensors")]


def test_bounds_that_were_not_measured_are_no_damage(tmp_path, write):
    write("a", "run_record.json", [RECORD])
    write("a", "image_bounds.safetensors", {})
    assert runs(tmp_path)["a"].files().remarks == ["not evaluated"]


def test_a_damaged_checkpoint_is_an_error_when_it_is_read(tmp_path, write):
    write("a", "metrics.json", [LOSS])
    path = tmp_path / "06_models" / "a" / "vae_epoch_001.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"vae_epoch_001\.pt"):
        runs(tmp_path)["a"].newest()


def test_runs_are_not_written(tmp_path):
    with pytest.raises(DatasetError, match="runs are read only"):
        RunsDataset(path=str(tmp_path)).save({})
