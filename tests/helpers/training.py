"""Training of a tiny model, without Kedro."""

import torch

from vae_mnist.config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from vae_mnist.training import loop as training
from vae_mnist.training import machine as devices
from vae_mnist.training import resume

CPU = torch.device("cpu")


MODEL = ModelConfig(name="vae", latent_dim=4, hidden_dim=16)


CARD = {
    "name": "digits", "title": "some digits", "source": "a test",
    "counts": {"train": 450, "validation": 0, "test": 100}, "sha256": {"train": "t", "validation": "v", "test": "e"},
}  # fmt: skip


def config(**changes):
    values = {
        "epochs": 2, "batch_size": 100, "learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0,
        "adam_beta1": 0.9, "adam_beta2": 0.999, "output_bias": "random", "precision": "float32", "device": "cpu",
        "seed": 0, "resume": True, "threads": 1, "processes": 1, "compile": False,
    }  # fmt: skip
    return TrainConfig(**(values | changes))


def settings(cfg, beta=1.0):
    return resume.run_settings(model=MODEL, objective=ObjectiveConfig(beta=beta), train=cfg)


def run(splits, cfg, beta=1.0, checkpoint=None):
    """Checkpoints of each epoch."""
    precision = devices.resolve_precision(cfg.precision, CPU)
    state = training.start(MODEL, cfg, splits["train"], CPU, precision)
    if checkpoint is not None:
        state = training.restore(state, checkpoint)
    objective = ObjectiveConfig(beta=beta)
    return [
        training.snapshot(state, settings(cfg, beta), CARD)
        for state in training.train(state, splits, objective, cfg, precision)
    ]
