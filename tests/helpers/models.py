"""Small models of every kind."""

import torch

from vae_mnist.config.parameters import ModelConfig, ObjectiveConfig
from vae_mnist.models import build_model

MODEL = {
    "latent_dim": 4, "network": "mlp", "mlp": {"hidden_dim": 16}, "conv": {"channels": [4, 6], "hidden_dim": 16},
    "residual": {"patch": 2, "channels": [4, 6], "blocks": 1, "hidden_dim": 16},
    "ladder": {"patch": 2, "channels": [4, 6], "blocks": [1, 1], "groups": [1, 2], "latent_channels": [1, 2]},
    "prior": "normal", "mixture": {"components": 3}, "vamp": {"pseudo_inputs": 5},
    "flow": {"couplings": 3, "hidden_dim": 8}, "likelihood": "bernoulli", "conditional": False,
}  # fmt: skip
OBJECTIVE = {"name": "elbo", "beta": 1.0, "iwae": {"samples": 3}}

LIKELIHOODS = ["bernoulli", "continuous_bernoulli", "gaussian", "discretised_logistic"]

# One of each choice, and some of them together.
KINDS = [
    {}, {"network": "conv"}, {"network": "residual"}, {"network": "ladder"}, {"prior": "mixture"}, {"prior": "vamp"},
    {"prior": "flow"}, {"network": "conv", "prior": "flow"}, {"network": "ladder", "prior": "vamp"},
    {"likelihood": "gaussian"}, {"network": "conv", "likelihood": "discretised_logistic"},
]  # fmt: skip


def model_config(**changes):
    return ModelConfig(**(MODEL | changes))


def objective_config(**changes):
    return ObjectiveConfig(**(OBJECTIVE | changes))


def small(image_shape=(1, 28, 28), seed=0, **changes):
    """A model of these choices; torch's global generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(model_config(**changes), image_shape)


def disturbed(module, spread=0.3):
    """The module with random weights everywhere, also where it starts at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(spread * torch.randn(weight.shape, generator=generator))
    return module


def noise(model, count, samples=1, seed=0):
    return torch.randn(samples, count, model.noise_dim, generator=torch.Generator().manual_seed(seed))
