"""Checkpoint files of a real run, and files that only pretend to be."""

import inspect

import pytest
import torch

from vae_mnist import VAE, checkpoints, interpolate, load_model
from vae_mnist.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.errors import CheckpointError, DataError
from vae_mnist.preprocessing import Digits


@pytest.fixture
def checkpoint(checkpoint_path):
    return read_checkpoint(checkpoint_path)


def saved(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    return tmp_path / "c.pt"


def test_a_checkpoint_is_one_dict_that_torch_reads_with_its_safe_default(checkpoint_path):
    assert inspect.signature(torch.load).parameters["weights_only"].default in (None, True)
    checkpoint = torch.load(checkpoint_path)
    assert set(checkpoint) == {
        "format_version", "epoch", "latent_dim", "hidden_dim", "model_state", "model", "optimizer_state",
        "scheduler_state", "scaler_state", "rng_state", "history", "settings", "config_hash", "data_hash", "dataset",
        "versions",
    }  # fmt: skip
    assert checkpoint["epoch"] == 2
    assert checkpoint["model"] == {"name": "vae", "latent_dim": 4, "hidden_dim": 16, "image_shape": [1, 28, 28]}
    assert checkpoint["dataset"]["title"].startswith("5,000-digit sample of MNIST")
    assert checkpoint["data_hash"] == checkpoint["dataset"]["sha256"]["train"]
    assert len(checkpoint["history"]) == 2
    assert checkpoint["versions"]["torch"] == torch.__version__


def test_the_documented_snippet_runs(checkpoint_path):
    checkpoint = torch.load(checkpoint_path)
    with torch.random.fork_rng(devices=[]):
        model = VAE(latent_dim=checkpoint["latent_dim"], hidden_dim=checkpoint["hidden_dim"])
        model.load_state_dict(checkpoint["model_state"])
        samples = model.decode(torch.randn(16, 4))
        strip = interpolate(model, torch.randn(1, 4), torch.randn(1, 4), steps=8)
    assert samples.shape == (16, 1, 28, 28)
    assert strip.shape == (8, 1, 28, 28)


def test_load_model_gives_the_trained_model_in_eval_mode(checkpoint_path, checkpoint):
    model = load_model(checkpoint_path)
    assert not model.training
    assert model.latent_dim == 4
    assert all(torch.equal(model.state_dict()[key], value) for key, value in checkpoint["model_state"].items())


def test_load_model_takes_a_plain_string(checkpoint_path):
    assert isinstance(load_model(str(checkpoint_path)), VAE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none.pt: expected a checkpoint file, found nothing"):
        load_model(tmp_path / "none.pt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="found a folder"):
        load_model(tmp_path)


class Attack:
    def __reduce__(self):
        return (print, ("the stranger's code ran",))


def test_a_pickled_object_is_refused_and_nothing_of_it_runs(tmp_path, capsys):
    with pytest.raises(CheckpointError, match="refused, nothing of it was run"):
        load_model(saved(tmp_path, {"format_version": 1, "model": Attack()}))
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip", b"\x80\x02."])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pt: (expected|refused)"):
        load_model(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, checkpoint_path, share):
    whole = checkpoint_path.read_bytes()
    path = tmp_path / "c.pt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"c\.pt: (expected|refused)"):
        load_model(path)


def test_a_bare_tensor_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="expected a dict, found Tensor"):
        load_model(saved(tmp_path, torch.zeros(3)))


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_version_is_named_with_ours(tmp_path, checkpoint, version):
    with pytest.raises(CheckpointError, match=f"expected format_version 1, found {version!r}"):
        load_model(saved(tmp_path, checkpoint | {"format_version": version}))


def test_missing_and_mistyped_keys_are_named(tmp_path, checkpoint):
    del checkpoint["history"]
    with pytest.raises(CheckpointError, match=r"epoch \(str\), history \(missing\)"):
        load_model(saved(tmp_path, checkpoint | {"epoch": "two"}))


def test_weights_of_another_size_are_refused(tmp_path, checkpoint):
    checkpoint["model_state"]["posterior.bias"] = torch.zeros(99)
    with pytest.raises(
        CheckpointError, match=r"(?s)c\.pt: the checkpoint's weights do not fit its model.*posterior.bias"
    ):
        load_model(saved(tmp_path, checkpoint))


def test_an_unknown_model_is_refused(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(saved(tmp_path, checkpoint | {"model": checkpoint["model"] | {"name": "gan"}}))


def test_writing_leaves_no_temporary_file(tmp_path, checkpoint):
    write_checkpoint(checkpoint, tmp_path / "sub" / "c.pt")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["c.pt"]
    assert read_checkpoint(tmp_path / "sub" / "c.pt")["epoch"] == 2


def test_other_digits_than_the_runs_are_refused(checkpoint):
    other = Digits(images=torch.zeros(3, 1, 28, 28, dtype=torch.uint8), labels=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match=r"expected those of the run, 5,000-digit sample.*found 3 others"):
        checkpoints.check_dataset(checkpoint, "test", other)


def test_names_sort_and_grow_past_999():
    assert [checkpoints.checkpoint_name(epoch) for epoch in (1, 20, 1000)] == [
        "vae_epoch_001", "vae_epoch_020", "vae_epoch_1000",
    ]  # fmt: skip
