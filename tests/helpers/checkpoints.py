"""Checkpoints of a tiny model, made without training."""

import io
import os

import torch

from vae_mnist.storage.archives import seal
from vae_mnist.storage.checkpoints import Checkpoint

from .records import CARD


def contents(epoch=3):
    """What the file of a checkpoint holds, each call with objects of its own."""
    weight, bias = torch.arange(6.0).view(3, 2), torch.tensor([0.5, -0.5, 0.25])
    moments = {
        number: {"step": torch.tensor(float(epoch)), "exp_avg": 0.1 * like, "exp_avg_sq": like**2}
        for number, like in enumerate((weight, bias))
    }
    group = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "fused": True, "foreach": None, "params": [0, 1]}
    columns = {"seconds": 1.5, "learning_rate": 0.001, "train_loss": 200.25, "test_loss": 201.5}
    return {
        "format_version": 4,
        "epoch": epoch,
        "latent_dim": 2,
        "image_shape": [1, 28, 28],
        "model": {"network": "mlp", "latent_dim": 2, "mlp": {"hidden_dim": [3, 3]}},
        "objective": {"name": "elbo", "beta": 1.0},
        "model_state": {"decoder.weight": weight, "decoder.bias": bias},
        "trained_state": {"decoder.weight": weight + 1, "decoder.bias": bias + 1},
        "objective_state": {"running_mean": torch.zeros(3)},
        "optimizer_state": {"state": moments, "param_groups": [group]},
        "scaler_state": {},
        "rng_state": torch.Generator().manual_seed(0).get_state(),
        "history": [{"epoch": number} | columns for number in range(1, epoch + 1)],
        "settings": {"model.network": "mlp", "train.seed": 0, "train.compile": False},
        "dataset": CARD,
        "versions": {"torch": "2.14.1", "cuda": None},
    }


def make_checkpoint(epoch=3, **changes):
    return Checkpoint(**contents(epoch) | changes)


def torch_saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def sealed(archive):
    """With a correct checksum, as anyone can compute it."""
    buffer = io.BytesIO(archive)
    seal(buffer)
    return buffer.getvalue()


def changed(content, key, value):
    """The content of a file with another value at "group/0/key"; ... removes it."""
    content = content.copy()
    *groups, last = (int(part) if part.isdigit() else part for part in key.split("/"))
    inner = content
    for group in groups:
        inner[group] = inner[group].copy()
        inner = inner[group]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


class Command:
    """What makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)
