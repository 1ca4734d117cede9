"""Small models of every kind."""

import torch

from vae_mnist.config.model import ModelConfig
from vae_mnist.config.objective import ObjectiveConfig
from vae_mnist.models import build_model
from vae_mnist.objectives import build_objective

MODEL = {
    "latent_dim": 4, "network": "mlp", "mlp": {"hidden_dim": 16}, "conv": {"channels": [4, 6], "hidden_dim": 16},
    "residual": {"patch": 2, "channels": [4, 6], "blocks": 1, "hidden_dim": 16},
    "ladder": {"patch": 2, "channels": [4, 6], "blocks": [1, 1], "groups": [1, 2], "latent_channels": [1, 2]},
    "prior": "normal", "mixture": {"components": 3}, "vamp": {"pseudo_inputs": 5},
    "flow": {"couplings": 3, "hidden_dim": 8}, "likelihood": "bernoulli",
    "autoregressive": {"features": 4, "blocks": 1}, "conditional": False,
}  # fmt: skip
ELBO = {
    "kl_warmup_steps": 0,
    "free_bits": 0.0,
    "free_bits_steps": 0,
    "capacity": 0.0,
    "capacity_gamma": 0.0,
    "capacity_steps": 0,
}
FACTOR = {
    "gamma": 5.0, "hidden_dim": 16, "layers": 2, "learning_rate": 1e-4, "adam_beta1": 0.5, "adam_beta2": 0.9,
}  # fmt: skip
OBJECTIVE = {
    "name": "elbo", "beta": 1.0, "elbo": ELBO, "factor": FACTOR, "iwae": {"samples": 3},
    "dreg": {"samples": 3},
}  # fmt: skip
OBJECTIVES = ["elbo", "total_correlation", "factor", "iwae", "dreg"]

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


def objective(**changes):
    """An objective of these choices, for `small` models; torch's global generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_objective(objective_config(**changes), count=450, latent_dim=MODEL["latent_dim"])


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
