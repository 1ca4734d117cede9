"""All parameters as frozen classes: types and ranges here, values and reasons in conf/base."""

import os
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .model import SEVERAL_GROUPS, ModelConfig
from .objective import ObjectiveConfig
from .types import NoBoolean, ParameterGroup, Seed, text

GREY_SAYS_MORE = "Grey values of the pixels before say more about a pixel than black and white ones."
NAME_BYTES, PATH_BYTES = 255, 3072  # Linux takes 255 and 4,096, and longer names lie below the folder


def _folder_path(value: str) -> str:
    try:
        name, whole = max(map(len, os.fsencode(value).split(b"/"))), len(os.fsencode(value))
    except UnicodeError:  # half a character, which no file name can hold
        name = whole = 0
    if whole == 0 or "\x00" in value or name > NAME_BYTES or whole > PATH_BYTES:
        raise ValueError(f"a folder path (names up to {NAME_BYTES} bytes, {PATH_BYTES:,} in total)")
    return value


FolderPath = Annotated[str, AfterValidator(_folder_path)]


class EmnistConfig(ParameterGroup):
    """Which of the six sets of EMNIST."""

    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]


class FolderConfig(ParameterGroup):
    """A folder of pictures."""

    path: FolderPath | None
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Seed
    damaged: Literal["refuse", "skip"]


class NpzConfig(ParameterGroup):
    """An .npz file of images and labels."""

    path: FolderPath | None


class IngestConfig(ParameterGroup):
    """Which images to read, how many to hold out, and in which size and colours."""

    source: Literal["auto", "mnist", "sample", "fashion", "kmnist", "qmnist", "emnist", "sprites", "folder", "npz"]
    emnist: EmnistConfig
    folder: FolderConfig
    npz: NpzConfig
    validation_size: Annotated[int, Field(ge=0, le=10**9)]
    image_size: Literal[28, 32, 64, 128]
    channels: Annotated[Literal[1, 3], NoBoolean]


class TrainConfig(ParameterGroup):
    """How training runs."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    optimizer: Literal["adamw", "muon"]
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
        text(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", "auto, cpu, cuda, cuda:1 (or another number) or mps"),
    ]
    seed: Seed
    resume: bool
    keep: (
        Literal["all"]
        | Annotated[int, Field(ge=1, le=10**9)]
        | Annotated[str, text(r"every-[1-9][0-9]{0,8}", "all, a number, or every-10 (or another number)")]
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    compile: Literal["auto"] | bool


class Kinds(ParameterGroup):
    """Which kinds of measures are taken."""

    bounds: bool
    latents: bool
    decomposition: bool
    codes: bool
    sample_quality: bool
    disentanglement: bool


class EvaluateConfig(ParameterGroup):
    """What is measured on the newest checkpoint."""

    kinds: Kinds
    importance_samples: Annotated[int, Field(ge=1, le=1_000_000)]
    images: Annotated[int, Field(ge=1, le=10**9)] | None
    binarisation: Literal["auto", "dynamic", "none"]
    seed: Seed
    chunk_size: Annotated[int, Field(ge=1, le=16_777_216)]
    decomposition_images: Annotated[int, Field(ge=1, le=1_000_000)]
    sample_images: Annotated[int, Field(ge=20, le=1_000_000)]


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
    """How many new images, of which class, from which checkpoint."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    seed: Seed
    label: Annotated[int, Field(ge=0, le=9_999)] | Literal["each"] | None
    temperature: Annotated[float, Field(ge=0.0, le=10.0)]
    checkpoint: Annotated[str, text(r"newest|vae_epoch_[0-9]{3,7}", "'newest' or a name such as vae_epoch_005")]


# `comparison` is the folder that compare writes to, beside those of the runs.
RUN_NAME = (
    r"(?!(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|\Z))(?!(?i:comparison)\Z)"
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?"
)


def _number_as_name(value: object) -> object:
    # `--params=run=16` arrives as an integer; as a name it is plain.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: object) -> object:
    """Names in one text: `--params` cannot give a list, and takes a comma for the end of a value."""
    value = _number_as_name(value)
    return re.findall(r"[^,\s]+", value) if isinstance(value, str) else value


RunName = Annotated[
    str,
    BeforeValidator(_number_as_name),
    text(
        RUN_NAME,
        "a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit, does not end "
        "in '.' and is neither 'comparison' nor a reserved Windows device name (con, nul, com1, …)",
    ),
]


class CompareConfig(ParameterGroup):
    """Which runs are compared, and samples of them."""

    runs: Annotated[tuple[RunName, ...], BeforeValidator(_names), Field(min_length=1, strict=False)] | None
    samples: Annotated[int, Field(ge=1, le=32)]
    seed: Seed


class Locations(ParameterGroup):
    """Names and folders, from globals.yml (the catalog needs them as well) or the command line."""

    run: RunName
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
    compare: CompareConfig

    @model_validator(mode="after")
    def _choices_go_together(self) -> Self:
        rules = (
            self._about_source,
            self._about_pixels,
            self._about_groups,
            self._about_parts_of_the_rate,
            self._about_training,
        )
        if problems := [problem for rule in rules for problem in rule()]:
            raise ValueError("\n".join(problems))
        return self

    def _about_source(self) -> Iterator[str]:
        source = self.ingest.source
        paths = {"folder": self.ingest.folder.path, "npz": self.ingest.npz.path}
        if source in paths and paths[source] is None:
            yield (
                f"ingest.{source}.path: expected a path with ingest.source={source}, got null. "
                f"Use --params=ingest.{source}.path=…"
            )

    def _about_pixels(self) -> Iterator[str]:
        likelihood, trained, evaluated = self.model.likelihood, self.train.binarisation, self.evaluate.binarisation
        if evaluated == "dynamic" and not self.model.binary:
            yield (
                f"evaluate.binarisation: expected auto or none with model.likelihood={likelihood}, got dynamic. That "
                "likelihood is one of grey values. Nearest: evaluate.binarisation=auto."
            )
        if evaluated == "none" and likelihood == "autoregressive":
            yield (
                "evaluate.binarisation: expected auto or dynamic with model.likelihood=autoregressive, got none. "
                f"{GREY_SAYS_MORE} Nearest: evaluate.binarisation=auto."
            )
        if trained == "none" and likelihood == "autoregressive":
            yield (
                "train.binarisation: expected dynamic or static with model.likelihood=autoregressive, got none. "
                f"{GREY_SAYS_MORE} Nearest: train.binarisation=dynamic."
            )
        if trained != "none" and not self.model.binary:
            yield (
                f"train.binarisation: expected none with model.likelihood={likelihood}, got {trained}. That likelihood "
                "is one of grey values. Nearest: model.likelihood=bernoulli."
            )

    def _about_groups(self) -> Iterator[str]:
        name, network = self.objective.name, self.model.network
        if name in ("total_correlation", "factor", "dreg") and network in SEVERAL_GROUPS:
            nearest = "iwae" if name == "dreg" else "elbo with objective.beta"
            yield (
                f"objective.name: expected elbo or iwae with model.network={network}, got {name}, which is defined for "
                f"latents of one group. Nearest: objective.name={nearest}."
            )

    def _about_parts_of_the_rate(self) -> Iterator[str]:
        elbo, prior, parts = self.objective.elbo, self.model.prior, self.evaluate.kinds.decomposition
        several = self.model.network in SEVERAL_GROUPS
        # Of a ladder, the rule about groups names an objective that goes with every prior.
        if self.objective.name == "total_correlation" and prior != "normal" and not several:
            yield (
                f"model.prior: expected normal with objective.name=total_correlation, got {prior}. The KL of each "
                "dimension needs a prior of independent dimensions. Nearest: objective.name=factor."
            )
        if parts and (prior != "normal" or several):
            yield (
                f"evaluate.kinds.decomposition: expected false with model.network={self.model.network} and model.prior="
                f"{prior}, got true. The parts of the rate need latents of one group, and model.prior=normal. "
                "Nearest: evaluate.kinds.decomposition=false."
            )
        for key, value in (("free_bits", elbo.free_bits), ("capacity_gamma", elbo.capacity_gamma)):
            of_groups = key == "free_bits" and several  # whose rates are enough
            if value and self.objective.name == "elbo" and prior != "normal" and not of_groups:
                yield (
                    f"objective.elbo.{key}: expected 0 with model.prior={prior}, got {value:g}. It bounds the KL of "
                    "each image, for which that prior has no closed form. Nearest: model.prior=normal; or use "
                    "objective.elbo.kl_warmup_steps in its place."
                )

    def _about_training(self) -> Iterator[str]:
        name = self.objective.name
        if self.objective.whole_batch and self.train.batch_size == 1:
            yield (
                f"train.batch_size: expected at least 2 with objective.name={name}, which compares images, got 1. "
                "Nearest: train.batch_size=2."
            )
