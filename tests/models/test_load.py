"""The model of a checkpoint."""

import pytest
import torch

from vae_mnist import VAE, interpolate, load_model
from vae_mnist.errors import CheckpointError
from vae_mnist.models import model_from_checkpoint
from vae_mnist.storage.checkpoints import Checkpoint, write_checkpoint

from ..helpers import training
from ..helpers.checkpoints import changed
from ..helpers.compare import same
from ..helpers.models import KINDS, model_config


@pytest.fixture(scope="module")
def checkpoint(sample_images):
    train, test = sample_images
    splits = {"train": training.first(train, 450), "test": training.first(test, 100)}
    return training.run(splits, training.config(epochs=1))[-1]


def test_the_readmes_snippet_runs_on_the_default_model(tmp_path, sample_images):
    train, test = sample_images
    splits = {"train": training.first(train, 50), "test": training.first(test, 10)}
    default = model_config(latent_dim=32, mlp={"hidden_dim": 512})
    write_checkpoint(training.run(splits, training.config(epochs=1), default)[-1], tmp_path / "c.pt")
    checkpoint = torch.load(tmp_path / "c.pt")
    with torch.random.fork_rng(devices=[]):
        model = VAE(latent_dim=checkpoint["latent_dim"])
        model.load_state_dict(checkpoint["model_state"])
        samples = model.decode(torch.randn(16, 32))
        strip = interpolate(model, torch.randn(1, 32), torch.randn(1, 32), steps=8)
    assert samples.shape == (16, 1, 28, 28)
    assert strip.shape == (8, 1, 28, 28)


def test_a_loaded_model_can_be_trained_and_shares_nothing_with_its_checkpoint(checkpoint):
    model = model_from_checkpoint(checkpoint)
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in model.parameters())
    before = checkpoint.model_state["network.posterior.bias"].clone()
    with torch.no_grad():
        model.network.posterior.bias.add_(1)
    assert torch.equal(checkpoint.model_state["network.posterior.bias"], before)


def test_a_checkpoint_from_before_a_choice_was_added_loads(checkpoint):
    def older(group, *names):
        return {name: value for name, value in group.items() if name not in names}

    before = Checkpoint(**(dict(checkpoint) | {"model": older(checkpoint.model, "autoregressive")}))
    assert same(model_from_checkpoint(before).state_dict(), model_from_checkpoint(checkpoint).state_dict())


def test_weights_in_another_order_of_memory_become_contiguous(checkpoint):
    weight = checkpoint.model_state["network.posterior.weight"]
    other = changed(dict(checkpoint), "model_state/network.posterior.weight", weight.t().contiguous().t())
    model = model_from_checkpoint(Checkpoint(**other))
    assert model.network.posterior.weight.is_contiguous()
    assert torch.equal(model.network.posterior.weight, weight)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model_state/network.posterior.bias", torch.zeros(99), r"do not fit its model: .*bias': expected \(8,\)"),
        ("model_state/network.posterior.bias", torch.zeros(8, dtype=torch.float64), r"found \(8,\) float64"),
        ("model_state/network.posterior.bias", ..., "found no such tensor"),
        ("model_state/more", torch.zeros(8), r"'more': expected no such tensor, found \(8,\) float32"),
        ("model/network", "gan", "describes no model"),
        ("model/more", 1, "describes no model"),
        ("model/mlp/hidden_dim", 65_536, r"expected \(65536, 784\)"),
        ("image_shape", [65_536] * 3, r"expected \(16, 281474976710656\)"),
    ],
)  # fmt: skip
def test_weights_and_a_model_that_do_not_fit_are_refused_by_name(tmp_path, checkpoint, key, value, text):
    write_checkpoint(Checkpoint(**changed(dict(checkpoint), key, value)), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=rf"c\.pt: .*{text}"):
        load_model(tmp_path / "c.pt")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_model_comes_back_from_its_checkpoint_in_eval_mode(tmp_path, sample_images, kind):
    train, test = sample_images
    splits = {"train": training.first(train, 50), "test": training.first(test, 10)}
    checkpoint = training.run(splits, training.config(epochs=1), model_config(**kind))[-1]
    write_checkpoint(checkpoint, str(tmp_path / "c.pt"))
    model = load_model(str(tmp_path / "c.pt"))
    assert not model.training
    assert model.groups[0] == 4
    assert model.state_dict().keys() == checkpoint.model_state.keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in checkpoint.model_state.items())
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())
