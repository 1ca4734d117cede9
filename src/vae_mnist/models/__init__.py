"""The VAE and its parts: networks, priors, likelihoods."""

from .build import build_model
from .load import load_model, model_from_checkpoint
from .result import Pass
from .vae import VAE

__all__ = ["VAE", "Pass", "build_model", "load_model", "model_from_checkpoint"]
