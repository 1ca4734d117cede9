"""Objectives: what training minimises, in nats per image, summed over pixels and latent dimensions."""

from .build import build_objective
from .elbo import Elbo
from .iwae import Iwae, importance_weighted_nll
from .terms import Objective, Terms

__all__ = ["Elbo", "Iwae", "Objective", "Terms", "build_objective", "importance_weighted_nll"]
