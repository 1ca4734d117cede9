"""Build the objective that a configuration describes."""

from typing import assert_never

from ..config.parameters import ObjectiveConfig
from .elbo import Elbo
from .iwae import Iwae
from .terms import Objective


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective of `objective.name`."""
    match config.name:
        case "elbo":
            return Elbo(config.beta)
        case "iwae":
            return Iwae(config.iwae.samples)
        case _:
            assert_never(config.name)
