"""Which model: a choice a part, and a group of parameters a choice."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .types import Levels, ParameterGroup, Patch, Width

# Networks whose latents form several groups: the posterior of one depends on the sample of another.
SEVERAL_GROUPS: frozenset[str] = frozenset({"ladder"})


class MlpConfig(ParameterGroup):
    """One hidden layer a side."""

    hidden_dim: Width


class ConvConfig(ParameterGroup):
    """Convolutions, each of which halves height and width; the decoder mirrors them."""

    channels: Levels[Width]
    hidden_dim: Width


class ResidualConfig(ParameterGroup):
    """Residual blocks at several resolutions; the decoder mirrors them."""

    patch: Patch
    channels: Levels[Width]
    blocks: Annotated[int, Field(ge=0, le=64)]  # of each level, on each side
    hidden_dim: Width


class LadderConfig(ParameterGroup):
    """Groups of latents at several resolutions, below a top group of dense ones."""

    patch: Patch
    channels: Levels[Width]
    blocks: Levels[Annotated[int, Field(ge=0, le=64)]]  # of each level on the way up
    groups: Levels[Annotated[int, Field(ge=0, le=64)]]  # of latents
    latent_channels: Levels[Width]  # of each group

    @model_validator(mode="after")
    def _one_number_a_level(self) -> Self:
        count = len(self.channels)
        for name in ("blocks", "groups", "latent_channels"):
            if (found := len(getattr(self, name))) != count:
                raise ValueError(
                    f"model.ladder.{name}: expected {count} numbers, one for each of model.ladder.channels, "
                    f"got {found}."
                )
        if not any(self.groups):
            raise ValueError("model.ladder.groups: expected at least one group of latents below the top, got none.")
        return self


class MixtureConfig(ParameterGroup):
    """Learned Gaussians."""

    components: Annotated[int, Field(ge=1, le=100_000)]


class VampConfig(ParameterGroup):
    """Posteriors at learned pseudo-inputs."""

    pseudo_inputs: Annotated[int, Field(ge=1, le=100_000)]


class FlowConfig(ParameterGroup):
    """RealNVP couplings between the codes and a standard normal."""

    couplings: Annotated[int, Field(ge=1, le=64)]
    hidden_dim: Width


class AutoregressiveConfig(ParameterGroup):
    """Masked convolutions of the pixels before each pixel."""

    features: Annotated[int, Field(ge=1, le=4096)]
    blocks: Annotated[int, Field(ge=0, le=64)]


class ModelConfig(ParameterGroup):
    """Which model to build: a choice a part, and a sub-group a choice; the image's shape follows from the data."""

    latent_dim: Annotated[int, Field(ge=1, le=4096)]
    network: Literal["mlp", "conv", "residual", "ladder"]
    mlp: MlpConfig
    conv: ConvConfig
    residual: ResidualConfig
    ladder: LadderConfig
    prior: Literal["normal", "mixture", "vamp", "flow"]
    mixture: MixtureConfig
    vamp: VampConfig
    flow: FlowConfig
    conditional: bool
    likelihood: Literal["bernoulli", "continuous_bernoulli", "gaussian", "discretised_logistic", "autoregressive"]
    autoregressive: AutoregressiveConfig = AutoregressiveConfig(features=16, blocks=1)  # in older checkpoints

    @property
    def binary(self) -> bool:
        """Whether the pixels of the likelihood are black or white."""
        return self.likelihood in ("bernoulli", "autoregressive")

    @model_validator(mode="after")
    def _a_flow_couples_two_halves(self) -> Self:
        if self.prior == "flow" and self.latent_dim == 1:
            raise ValueError(
                "model.latent_dim: expected at least 2 with model.prior=flow, got 1. Nearest: model.latent_dim=2."
            )
        return self
