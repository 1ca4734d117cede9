import json
import logging

import pytest
import torch
from safetensors.torch import load_file

from vae_mnist.config.parameters import IngestConfig
from vae_mnist.data.images import Digits, RawDigits, digits_sha256
from vae_mnist.datasets import download, mnist
from vae_mnist.errors import DataError
from vae_mnist.pipelines.ingest.nodes import read_digits, split_digits

from ..helpers.idx import lay_out


def config(source):
    return IngestConfig(source=source, validation_size=0)


@pytest.fixture
def unreachable(monkeypatch):
    """No mirror serves: an address on this machine where nobody listens."""
    monkeypatch.setattr(download, "MIRRORS", ["http://127.0.0.1:9/mnist/"])
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def readers(tmp_path):
    return mnist.MnistDataset(path=str(tmp_path)).load()


@pytest.fixture
def small_files(tmp_path, contents):
    return lay_out(tmp_path, contents)


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_files_come_first_and_a_foreign_checksum_is_a_warning_that_names_it(small_files, readers, caplog, source):
    raw = read_digits(readers, config(source))
    assert len(raw.train["labels"]) == 60
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4
    assert raw.files["train-images-idx3-ubyte"]["sha256"] in warnings[0]
    assert "train-images-idx3-ubyte is a valid file, but not the published MNIST" in warnings[0]


def test_auto_falls_back_on_the_sample_with_a_warning_that_says_all(readers, unreachable, caplog):
    raw = read_digits(readers, config("auto"))
    assert raw.name == "5,000-digit sample of MNIST"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "5,000-digit sample" in warning
    assert "not all four are under" in warning
    assert "http://127.0.0.1:9/mnist/ ([Errno 111] Connection refused)" in warning
    assert "--params=mnist_root=" in warning


def test_mnist_refuses_the_sample(readers, unreachable):
    with pytest.raises(
        DataError, match=r"ingest.source is 'mnist', but the full set is not available.*Connection refused"
    ):
        read_digits(readers, config("mnist"))


def test_sample_goes_straight_to_the_sample(small_files, readers, caplog):
    assert len(read_digits(readers, config("sample")).train["labels"]) == 4000
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_ingest_writes_checked_tensors_and_a_data_card(project, sample_digits):
    assert project.invoke("--pipelines=ingest", ingest__validation_size=100).exit_code == 0
    folder = project.path("05_model_input")
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert card["title"] == "5,000-digit sample of MNIST: 3,900 training + 100 validation + 1,000 test digits"
    for split in ("train", "validation", "test"):
        digits = load_file(folder / f"{split}_digits.safetensors")
        assert digits["images"].shape == (card["counts"][split], 1, 28, 28)
        assert digits_sha256(digits) == card["sha256"][split]
    assert digits_sha256(sample_digits[1]) == card["sha256"]["test"]


def test_data_root_and_mnist_root_move_files(project, small_files, tmp_path):
    result = project.invoke(
        "--pipelines=ingest", ingest__source="mnist", mnist_root=small_files, data_root=tmp_path / "elsewhere"
    )
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "elsewhere" / "05_model_input" / "data_card.json").read_text(encoding="utf-8"))
    assert card["name"] == "MNIST-shaped digits"
    assert card["files"]["t10k-labels-idx1-ubyte"]["known"] is False
    assert not project.path("05_model_input").exists()


def test_mnist_root_is_data_root_01_raw_if_not_given(project, contents, tmp_path):
    lay_out(tmp_path / "moved" / "01_raw", contents)
    result = project.invoke("--pipelines=ingest", ingest__source="mnist", data_root=tmp_path / "moved")
    assert result.exit_code == 0, result.output
    assert "60 training + 20 test digits" in result.output


def test_a_damaged_file_ends_the_run_with_one_message(project, small_files):
    (small_files / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    result = project.invoke("--pipelines=ingest", ingest__source="auto", mnist_root=small_files)
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "t10k-images-idx3-ubyte: expected a header of 16 bytes, found 4: cut short. Delete it" in result.output
    assert "Traceback" not in result.output


def test_the_data_card_says_name_counts_source_and_checksums():
    def digits(count):
        images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
        return Digits(images=images, labels=torch.arange(count) % 10)

    facts = {"bytes": 1, "sha256": "0" * 64, "known": True}
    raw = RawDigits("MNIST", "files under x", {"a": facts}, digits(10), digits(5))
    train, validation, test, card = split_digits(raw, IngestConfig(source="mnist", validation_size=2))
    assert card.title == "MNIST: 8 training + 2 validation + 5 test digits"
    assert card.source == "files under x"
    assert card.counts == {"train": 8, "validation": 2, "test": 5}
    assert card.class_counts["validation"] == [0] * 8 + [1, 1]
    assert card.class_counts["test"] == [1] * 5 + [0] * 5
    assert card.image_shape == [1, 2, 2]
    assert card.train_pixel_mean == round(sum(range(32)) / 32 / 255, 6)
    splits = {"train": train, "validation": validation, "test": test}
    assert card.sha256 == {split: digits_sha256(digits) for split, digits in splits.items()}
    assert card.files["a"].model_dump() == facts
