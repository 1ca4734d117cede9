"""Which objective, and a group of parameters a choice."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .types import ParameterGroup, Width


class ElboConfig(ParameterGroup):
    """The weight of the rate during training, and what the rate is compared with."""

    kl_warmup_steps: Annotated[int, Field(ge=0, le=10**9)]
    free_bits: Annotated[float, Field(ge=0.0, le=1000.0)]
    free_bits_steps: Annotated[int, Field(ge=0, le=10**9)]
    capacity: Annotated[float, Field(ge=0.0, le=100_000.0)]
    capacity_gamma: Annotated[float, Field(ge=0.0, le=100_000.0)]
    capacity_steps: Annotated[int, Field(ge=0, le=10**9)]


class FactorConfig(ParameterGroup):
    """The total correlation as a discriminator estimates it (FactorVAE)."""

    gamma: Annotated[float, Field(ge=0.0, le=10_000.0)]
    hidden_dim: Width
    layers: Annotated[int, Field(ge=1, le=64)]
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)]
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)]


class IwaeConfig(ParameterGroup):
    """The importance-weighted bound as an objective."""

    samples: Annotated[int, Field(ge=1, le=1000)]


class ObjectiveConfig(ParameterGroup):
    """What training minimises, in nats per image."""

    name: Literal["elbo", "total_correlation", "factor", "iwae", "dreg"]
    beta: Annotated[float, Field(ge=0.0, le=10_000.0)]
    elbo: ElboConfig
    factor: FactorConfig
    iwae: IwaeConfig
    dreg: IwaeConfig

    @property
    def whole_batch(self) -> bool:
        """Whether an image's loss depends on the other images of its batch."""
        return self.name in ("total_correlation", "factor")

    @model_validator(mode="after")
    def _beta_is_of_elbo_and_total_correlation(self) -> Self:
        if self.name not in ("elbo", "total_correlation") and self.beta != 1:
            raise ValueError(
                f"objective.beta: expected 1.0 with objective.name={self.name}, got {self.beta:g}. It weighs a term "
                "of elbo and total_correlation only. Nearest: objective.name=elbo."
            )
        return self

    @model_validator(mode="after")
    def _a_capacity_replaces_the_weight_of_the_rate(self) -> Self:
        gamma, warmup, free = self.elbo.capacity_gamma, self.elbo.kl_warmup_steps, self.elbo.free_bits
        if self.name == "elbo" and gamma and (self.beta, warmup, free) != (1, 0, 0):
            raise ValueError(
                "objective: expected beta=1.0, elbo.kl_warmup_steps=0 and elbo.free_bits=0.0 with "
                f"elbo.capacity_gamma={gamma:g}, got {self.beta:g}, {warmup} and {free:g}. The capacity alone acts on "
                "the rate. Nearest: objective.elbo.capacity_gamma=0.0, which turns it off."
            )
        return self
