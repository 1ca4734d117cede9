"""Training of a small model, without Kedro."""

import torch

from vae_mnist.config.parameters import TrainConfig
from vae_mnist.data.images import ImageSet
from vae_mnist.training.loop import train
from vae_mnist.training.machine import resolve_machine
from vae_mnist.training.resume import run_settings
from vae_mnist.training.state import restore, snapshot, start

from .models import model_config, objective_config
from .records import card

CARD = card()


def config(**changes):
    values = {
        "epochs": 2, "batch_size": 100, "optimizer": "adamw", "learning_rate": 1e-3, "schedule": "constant",
        "warmup_steps": 0, "adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0, "clip_norm": "none",
        "average": "none", "binarisation": "none", "output_bias": "random", "precision": "float32", "device": "cpu",
        "seed": 0, "resume": True, "keep": "all", "threads": 1, "compile": False,
    }  # fmt: skip
    return TrainConfig(**(values | changes))


def first(image_set, count, start=0):
    return ImageSet(
        images=image_set["images"][start : start + count], labels=image_set["labels"][start : start + count]
    )


def settings(cfg, model=None, objective=None):
    machine = resolve_machine(cfg)
    return run_settings(model or model_config(), objective or objective_config(), cfg, machine.precision)


def begin(splits, cfg, model=None, objective=None):
    """An untrained state."""
    images = splits["train"]["images"]
    return start(model or model_config(), objective or objective_config(), cfg, images, 10, resolve_machine(cfg))


def epochs(state, splits, cfg):
    return train(state, splits, cfg, resolve_machine(cfg))


def run(splits, cfg, model=None, objective=None, checkpoint=None):
    """Checkpoints of each epoch."""
    state = begin(splits, cfg, model, objective)
    if checkpoint is not None:
        state = restore(state, checkpoint)
    return [snapshot(each, settings(cfg, model, objective), CARD) for each in epochs(state, splits, cfg)]


def pass_of(batch, step=0):
    """Arguments of a step."""
    return batch, torch.tensor(step)
