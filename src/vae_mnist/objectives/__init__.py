"""Objectives: what training minimises, in nats per image, summed over pixels and latent dimensions."""

from .build import build_objective
from .dreg import Dreg
from .elbo import Elbo
from .factor import Factor
from .iwae import Iwae, importance_weighted_nll
from .load import objective_from_checkpoint
from .terms import Objective, Terms
from .total_correlation import TotalCorrelation

__all__ = [
    "Dreg",
    "Elbo",
    "Factor",
    "Iwae",
    "Objective",
    "Terms",
    "TotalCorrelation",
    "build_objective",
    "importance_weighted_nll",
    "objective_from_checkpoint",
]
