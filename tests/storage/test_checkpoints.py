"""Checkpoint files of a real run, and files that only pretend to be."""

import hashlib
import inspect
import io
import subprocess
import zipfile

import pytest
import torch

from vae_mnist import VAE, interpolate, load_model
from vae_mnist.data.images import Digits
from vae_mnist.errors import CheckpointError, DamagedCheckpointError, DataError
from vae_mnist.storage import checkpoints
from vae_mnist.storage.archives import seal
from vae_mnist.storage.checkpoints import model_from_checkpoint, read_checkpoint, write_checkpoint


@pytest.fixture
def checkpoint(checkpoint_path):
    return read_checkpoint(checkpoint_path)


def saved(tmp_path, content):
    """As write_checkpoint saves it, checksum included, without its checks."""
    archive = io.BytesIO()
    torch.save(content, archive)
    seal(archive)
    (tmp_path / "c.pt").write_bytes(archive.getvalue())
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


def test_a_checkpoint_ends_with_the_sha256_of_all_bytes_before(checkpoint_path):
    commands = 'head -c -64 "$0" | sha256sum | head -c 64; echo; tail -c 64 "$0"'
    result = subprocess.run(["/bin/sh", "-c", commands, checkpoint_path], capture_output=True, text=True, check=True)
    computed, written = result.stdout.split()
    assert len(written) == 64
    assert computed == written
    with zipfile.ZipFile(checkpoint_path) as archive:
        assert archive.comment == b"vae_mnist sha256 " + written.encode()
        assert archive.testzip() is None


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


def test_a_loaded_model_can_be_trained_and_shares_nothing_with_its_checkpoint(checkpoint):
    model = model_from_checkpoint(checkpoint)
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in model.parameters())
    before = checkpoint["model_state"]["posterior.bias"].clone()
    with torch.no_grad():
        model.posterior.bias.add_(1)
    assert torch.equal(checkpoint["model_state"]["posterior.bias"], before)


def test_weights_in_another_order_of_memory_become_contiguous(tmp_path, checkpoint):
    weight = checkpoint["model_state"]["posterior.weight"]
    checkpoint["model_state"]["posterior.weight"] = weight.t().contiguous().t()
    model = load_model(saved(tmp_path, checkpoint))
    assert model.posterior.weight.is_contiguous()
    assert torch.equal(model.posterior.weight, weight)


def test_load_model_takes_a_plain_string(checkpoint_path):
    assert isinstance(load_model(str(checkpoint_path)), VAE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none.pt: expected a checkpoint file, found nothing"):
        load_model(tmp_path / "none.pt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="found a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip", bytes(1000)])
def test_a_file_that_is_no_archive_at_all_is_damaged(tmp_path, content):
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=rf"c\.pt: damaged: .* found {len(content):,} bytes without"):
        load_model(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_damaged(tmp_path, checkpoint_path, share):
    whole = checkpoint_path.read_bytes()
    path = tmp_path / "c.pt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DamagedCheckpointError, match=r"c\.pt: damaged: .*kedro run sets it aside and goes on"):
        load_model(path)


@pytest.mark.parametrize("place", [0, 100, 5000, -200, -90, -75, -40, -1])
def test_one_flipped_bit_is_noticed(tmp_path, checkpoint_path, place):
    content = bytearray(checkpoint_path.read_bytes())
    content[place] ^= 1
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"c\.pt: damaged: "):
        load_model(tmp_path / "c.pt")


def test_damage_is_told_by_both_checksums(tmp_path, checkpoint_path):
    content = bytearray(checkpoint_path.read_bytes())
    content[5000] ^= 1
    (tmp_path / "c.pt").write_bytes(content)
    written, found = content[-64:-52].decode(), hashlib.sha256(content[:-64]).hexdigest()[:12]
    with pytest.raises(DamagedCheckpointError, match=f"expected the checksum {written}….* its bytes give {found}…"):
        load_model(tmp_path / "c.pt")


def test_a_file_of_torch_save_alone_is_refused_with_what_to_do(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no checksum, so another program or an older version wrote it") as caught:
        load_model(tmp_path / "c.pt")
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert "Train the model again with this version" in str(caught.value)


def test_a_bare_tensor_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="expected a dict, found Tensor"):
        load_model(saved(tmp_path, torch.zeros(3)))


@pytest.mark.parametrize("version", [0, 1, 3, None, "2", 2.0])
def test_another_format_version_is_named_with_ours(tmp_path, checkpoint, version):
    with pytest.raises(CheckpointError, match=f"expected format_version 2, .* reads, found {version!r}"):
        load_model(saved(tmp_path, checkpoint | {"format_version": version}))


def test_missing_and_mistyped_keys_are_named(tmp_path, checkpoint):
    del checkpoint["history"]
    with pytest.raises(CheckpointError, match=r"epoch \(str\), history \(missing\)"):
        load_model(saved(tmp_path, checkpoint | {"epoch": "two"}))


def test_weights_of_another_size_are_refused(tmp_path, checkpoint):
    checkpoint["model_state"]["posterior.bias"] = torch.zeros(99)
    with pytest.raises(
        CheckpointError,
        match=r"c\.pt: .* do not fit its model: 'posterior.bias': expected \(8,\) float32, found \(99,\)",
    ):
        load_model(saved(tmp_path, checkpoint))


def test_an_unknown_model_is_refused(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="describes no model"):
        load_model(saved(tmp_path, checkpoint | {"model": checkpoint["model"] | {"name": "gan"}}))


def test_writing_leaves_no_temporary_file(tmp_path, checkpoint):
    write_checkpoint(checkpoint, tmp_path / "sub" / "c.pt")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["c.pt"]
    assert read_checkpoint(tmp_path / "sub" / "c.pt")["epoch"] == 2


def test_nothing_is_written_that_could_not_be_read(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="refused"):
        write_checkpoint(checkpoint | {"rng_state": checkpoint["rng_state"][:10]}, tmp_path / "c.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_under_another_epochs_name_is_refused_and_under_a_name_of_ones_own_read(tmp_path, checkpoint_path):
    (tmp_path / "vae_epoch_007.pt").write_bytes(checkpoint_path.read_bytes())
    with pytest.raises(CheckpointError, match=r"expected epoch 7 as its name says, found epoch 2: it was renamed"):
        load_model(tmp_path / "vae_epoch_007.pt")
    (tmp_path / "vae_epoch_007.pt").rename(tmp_path / "best.pt")
    assert load_model(tmp_path / "best.pt").latent_dim == 4


def test_other_digits_than_the_runs_are_refused(checkpoint):
    other = Digits(images=torch.zeros(3, 1, 28, 28, dtype=torch.uint8), labels=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match=r"expected those of the run, 5,000-digit sample.*found 3 others"):
        checkpoints.check_dataset(checkpoint, "test", other)


def test_names_sort_and_grow_past_999():
    assert [checkpoints.checkpoint_name(epoch) for epoch in (1, 20, 1000)] == [
        "vae_epoch_001", "vae_epoch_020", "vae_epoch_1000",
    ]  # fmt: skip


def test_weights_are_identified_by_names_shapes_and_bytes_in_their_order():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.0, dtype=torch.bfloat16)}
    digest = checkpoints.weights_digest(weights)
    assert (digest.shape, digest.dtype) == ((32,), torch.uint8)
    assert torch.equal(digest, checkpoints.weights_digest({name: each.clone() for name, each in weights.items()}))
    others = [
        {"a": weights["a"], "c": weights["b"]},
        {"a": weights["a"].view(3, 2), "b": weights["b"]},
        {"a": weights["a"].view(torch.int32), "b": weights["b"]},
        {"a": weights["a"] + 1, "b": weights["b"]},
        dict(reversed(weights.items())),
    ]
    assert not any(torch.equal(digest, checkpoints.weights_digest(other)) for other in others)
