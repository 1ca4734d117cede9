"""Every parameter group as a frozen class: types and ranges here, values and reasons in conf/base."""

import os
import re
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Patch = Annotated[int, Field(ge=1, le=16)]  # pixels a side of a cell of the finest feature map

Item = TypeVar("Item")
# One number a level, the finest first; YAML has lists only.
Levels = Annotated[tuple[Item, ...], Field(min_length=1, max_length=8, strict=False)]

NAME_BYTES, PATH_BYTES = 255, 3072  # Linux takes 255 and 4,096, and longer names lie below the folder


def _text(pattern: str, description: str) -> AfterValidator:
    """Text that matches a pattern, asked for in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(description)
        return value

    return AfterValidator(check)


# Networks whose latents form several groups: the posterior of one depends on the sample of another.
SEVERAL_GROUPS: frozenset[str] = frozenset({"ladder"})


class ParameterGroup(BaseModel):
    """Frozen, strict about types, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class IngestConfig(ParameterGroup):
    """Which digits to read, how many to hold out, and in which size and colours."""

    source: Literal["auto", "mnist", "sample"]
    validation_size: Annotated[int, Field(ge=0, le=10**9)]
    image_size: Literal[28, 32, 64, 128]
    channels: Literal[1, 3]


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
    likelihood: Literal["bernoulli", "continuous_bernoulli", "gaussian", "discretised_logistic"]

    @model_validator(mode="after")
    def _a_flow_couples_two_halves(self) -> Self:
        if self.prior == "flow" and self.latent_dim == 1:
            raise ValueError("model.latent_dim: expected at least 2 with model.prior=flow, got 1.")
        return self


class ElboConfig(ParameterGroup):
    """The weight of the rate during training, and what the rate is compared with."""

    kl_warmup_steps: Annotated[int, Field(ge=0, le=10**9)]
    free_bits: Annotated[float, Field(ge=0.0, le=1000.0)]
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
                "of elbo and total_correlation only."
            )
        return self

    @model_validator(mode="after")
    def _a_capacity_replaces_the_weight_of_the_rate(self) -> Self:
        gamma, warmup, free = self.elbo.capacity_gamma, self.elbo.kl_warmup_steps, self.elbo.free_bits
        if self.name == "elbo" and gamma and (self.beta, warmup, free) != (1, 0, 0):
            raise ValueError(
                "objective: expected beta=1.0, elbo.kl_warmup_steps=0 and elbo.free_bits=0.0 with "
                f"elbo.capacity_gamma={gamma:g}, got {self.beta:g}, {warmup} and {free:g}. The capacity alone acts on "
                "the rate; elbo.capacity_gamma=0.0 turns it off."
            )
        return self


class TrainConfig(ParameterGroup):
    """How training runs."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)]
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)]
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)]
    clip_norm: Literal["none"] | Annotated[float, Field(gt=0.0, le=1e9)]
    average: Literal["none"] | Annotated[float, Field(gt=0.0, lt=1.0)]
    binarisation: Literal["none", "dynamic", "static"]
    output_bias: Literal["random", "data"]
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"]
    # torch itself takes cuda:128 for cuda:-128
    device: Annotated[
        str,
        _text(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", "auto, cpu, cuda, cuda:1 (or another number) or mps"),
    ]
    seed: Seed
    resume: bool
    keep: (
        Literal["all"]
        | Annotated[int, Field(ge=1, le=10**9)]
        | Annotated[str, _text(r"every-[1-9][0-9]{0,8}", "all, a number, or every-10 (or another number)")]
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    compile: bool


class EvaluateConfig(ParameterGroup):
    """What is measured on the newest checkpoint."""

    importance_samples: Annotated[int, Field(ge=1, le=1_000_000)]
    images: Annotated[int, Field(ge=1, le=10**9)] | None
    binarisation: Literal["auto", "dynamic", "none"]
    seed: Seed
    chunk_size: Annotated[int, Field(ge=1, le=16_777_216)]
    decomposition_images: Annotated[int, Field(ge=0, le=1_000_000)]


class ReportConfig(ParameterGroup):
    """What the figures show."""

    seed: Seed
    sample_side: Annotated[int, Field(ge=1, le=32)]
    reconstructions: Annotated[int, Field(ge=1, le=200)]
    interpolation_pairs: Annotated[int, Field(ge=1, le=20)]
    interpolation_steps: Annotated[int, Field(ge=2, le=40)]
    traversal_dims: Annotated[int, Field(ge=1, le=64)]
    traversal_steps: Annotated[int, Field(ge=2, le=41)]
    traversal_range: Annotated[float, Field(gt=0.0, le=10.0)]
    animation_frames: Annotated[int, Field(ge=1, le=1000)]
    animation_frame_ms: Annotated[int, Field(ge=20, le=10_000)]


class GenerateConfig(ParameterGroup):
    """How many new digits, of which class, from which checkpoint."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    seed: Seed
    label: Annotated[int, Field(ge=0, le=9_999)] | Literal["each"] | None
    temperature: Annotated[float, Field(ge=0.0, le=10.0)]
    checkpoint: Annotated[str, _text(r"newest|vae_epoch_[0-9]{3,7}", "'newest' or a name such as vae_epoch_005")]


def _number_as_name(value: object) -> object:
    # `--params=run=16` arrives as an integer; as a name it is plain.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _folder_path(value: str) -> str:
    try:
        name, whole = max(map(len, os.fsencode(value).split(b"/"))), len(os.fsencode(value))
    except UnicodeError:  # half a character, which no file name can hold
        name = whole = 0
    if whole == 0 or "\x00" in value or name > NAME_BYTES or whole > PATH_BYTES:
        raise ValueError(f"a folder path (names up to {NAME_BYTES} bytes, {PATH_BYTES:,} in total)")
    return value


FolderPath = Annotated[str, AfterValidator(_folder_path)]


class Locations(ParameterGroup):
    """Names and folders, from globals.yml (the catalog needs them as well) or the command line."""

    run: Annotated[
        str,
        BeforeValidator(_number_as_name),
        _text(
            r"(?!(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|\Z))[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?",
            "a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit, does not end "
            "in '.' and is not a reserved Windows device name (con, nul, com1, …)",
        ),
    ]
    data_root: FolderPath
    mnist_root: FolderPath = ""  # not given: <data_root>/01_raw


class Parameters(Locations):
    """All parameters, names and folders included."""

    ingest: IngestConfig
    model: ModelConfig
    objective: ObjectiveConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    report: ReportConfig
    generate: GenerateConfig

    @model_validator(mode="after")
    def _binarised_images_have_a_bernoulli_likelihood(self) -> Self:
        if self.evaluate.binarisation == "dynamic" and self.model.likelihood != "bernoulli":
            raise ValueError(
                f"evaluate.binarisation: expected auto or none with model.likelihood={self.model.likelihood}, got "
                "dynamic. That likelihood is one of grey values. Use --params=evaluate.binarisation=auto."
            )
        return self

    @model_validator(mode="after")
    def _binary_pixels_are_trained_with_a_bernoulli_likelihood(self) -> Self:
        if self.train.binarisation != "none" and self.model.likelihood != "bernoulli":
            raise ValueError(
                f"train.binarisation: expected none with model.likelihood={self.model.likelihood}, got "
                f"{self.train.binarisation}. That likelihood is one of grey values. Nearest: model.likelihood=bernoulli."
            )
        return self

    @model_validator(mode="after")
    def _some_objectives_need_latents_of_one_group(self) -> Self:
        name, network = self.objective.name, self.model.network
        if name in ("total_correlation", "factor", "dreg") and network in SEVERAL_GROUPS:
            nearest = "iwae" if name == "dreg" else "elbo with objective.beta"
            raise ValueError(
                f"objective.name: expected elbo or iwae with model.network={network}, got {name}, which is defined for "
                f"latents of one group. Nearest: objective.name={nearest}."
            )
        return self

    @model_validator(mode="after")
    def _parts_of_the_rate_need_a_prior_of_independent_dimensions(self) -> Self:
        prior, images = self.model.prior, self.evaluate.decomposition_images
        if self.objective.name == "total_correlation" and prior != "normal":
            raise ValueError(
                f"model.prior: expected normal with objective.name=total_correlation, got {prior}. The KL of each "
                "dimension needs a prior of independent dimensions. Nearest: objective.name=factor."
            )
        if images and (prior != "normal" or self.model.network in SEVERAL_GROUPS):
            raise ValueError(
                f"evaluate.decomposition_images: expected 0 with model.network={self.model.network} and model.prior="
                f"{prior}, got {images}. The parts of the rate need latents of one group, and model.prior=normal."
            )
        return self

    @model_validator(mode="after")
    def _a_bounded_rate_needs_its_closed_form(self) -> Self:
        elbo, prior = self.objective.elbo, self.model.prior
        for key, value in (("free_bits", elbo.free_bits), ("capacity_gamma", elbo.capacity_gamma)):
            if value and self.objective.name == "elbo" and prior != "normal":
                raise ValueError(
                    f"objective.elbo.{key}: expected 0 with model.prior={prior}, got {value:g}. It bounds the KL of "
                    "each image, for which that prior has no closed form. Nearest: objective.elbo.kl_warmup_steps."
                )
        return self

    @model_validator(mode="after")
    def _how_an_objective_can_be_trained(self) -> Self:
        name = self.objective.name
        if self.objective.whole_batch and self.train.batch_size == 1:
            raise ValueError(
                f"train.batch_size: expected at least 2 with objective.name={name}, which compares images, got 1."
            )
        if name == "dreg" and self.train.compile:
            raise ValueError(
                "train.compile: expected false with objective.name=dreg, got true. It changes gradients between "
                "operations that a compiler joins. Nearest: objective.name=iwae."
            )
        return self
