"""Build the objective that a configuration describes."""

from typing import assert_never

from ..config.objective import ObjectiveConfig
from .dreg import Dreg
from .elbo import Elbo
from .factor import Factor
from .iwae import Iwae
from .terms import Objective
from .total_correlation import TotalCorrelation


def build_objective(config: ObjectiveConfig, count: int, latent_dim: int) -> Objective:
    """The objective of `objective.name`; weights, if it has any, are drawn from torch's default generator.

    Args:
        config: the choice and its numbers.
        count: images in the training set.
        latent_dim: of the model.
    """
    match config.name:
        case "elbo":
            return Elbo(config.beta, **config.elbo.model_dump())
        case "total_correlation":
            return TotalCorrelation(config.beta, count)
        case "factor":
            return Factor(config.factor, latent_dim)
        case "iwae":
            return Iwae(config.iwae.samples)
        case "dreg":
            return Dreg(config.dreg.samples)
        case _:
            assert_never(config.name)
