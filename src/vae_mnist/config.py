"""Every parameter group as a frozen class: types and ranges here, values and reasons in conf/base."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1)]


def _text(pattern: str, description: str) -> AfterValidator:
    """Text that matches a pattern, asked for in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(description)
        return value

    return AfterValidator(check)


class ParameterGroup(BaseModel):
    """Frozen, strict about types, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class IngestConfig(ParameterGroup):
    """Which digits to read, and how many to hold out."""

    source: Literal["auto", "mnist", "sample"]
    validation_size: Annotated[int, Field(ge=0)]


class ModelConfig(ParameterGroup):
    """Which model to build; the image size follows from the data."""

    name: Literal["vae"]
    latent_dim: Annotated[int, Field(ge=1, le=65_536)]
    hidden_dim: Annotated[int, Field(ge=1, le=65_536)]


class ObjectiveConfig(ParameterGroup):
    """What training minimises: reconstruction + beta x KL, in nats per image."""

    beta: Annotated[float, Field(ge=0.0)]


class TrainConfig(ParameterGroup):
    """How training runs."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0.0)]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    device: Annotated[str, _text(r"auto|cpu|mps|cuda(:\d{1,3})?", "auto, cpu, cuda, cuda:1 (or another number) or mps")]
    seed: Seed
    resume: bool
    threads: Literal["auto"] | Count


class EvaluateConfig(ParameterGroup):
    """What is measured on the newest checkpoint."""

    importance_samples: Count
    binarisation: Literal["dynamic", "none"]
    seed: Seed
    chunk_size: Count


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
    """How many new digits, from which checkpoint."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    seed: Seed
    checkpoint: str


def _number_as_name(value: object) -> object:
    # `--params=run=16` arrives as an integer; as a name it is plain.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


FolderPath = Annotated[str, _text(r"[^\x00]+", "the path of a folder")]


class Locations(ParameterGroup):
    """The top-level parameters: names and folders."""

    run: Annotated[
        str,
        BeforeValidator(_number_as_name),
        _text(
            r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            "a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit",
        ),
    ]
    data_root: FolderPath | None = None
    mnist_root: FolderPath | None = None


GROUPS: dict[str, type[ParameterGroup]] = {
    "ingest": IngestConfig,
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "generate": GenerateConfig,
}


def parameter_problems(parameters: Mapping[str, Any]) -> list[str]:
    """Check all parameters at once, top-level names included.

    Args:
        parameters: the merged parameters of all files and the command line.

    Returns:
        One line for each wrong key: its name, what was expected, what came.
    """
    problems: list[str] = []
    top_level = {}
    for key, value in parameters.items():
        if key in GROUPS:
            problems += _problems(GROUPS[key], value, prefix=f"{key}.")
        elif key in Locations.model_fields:
            top_level[key] = value
        else:
            problems.append(_unknown(key, [*GROUPS, *Locations.model_fields]))
    problems += _problems(Locations, top_level, prefix="")
    problems += [
        f"{group}: missing. conf/base/parameters_{group}.yml gives it." for group in GROUPS.keys() - parameters.keys()
    ]
    return sorted(problems)


def _problems(group: type[ParameterGroup], value: object, prefix: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{prefix.rstrip('.')}: expected a group of parameters ({', '.join(group.model_fields)}), got {value!r}."
        return
    try:
        group.model_validate(dict(value))
    except ValidationError as error:
        # A union reports each of its members; one line a key is enough.
        seen: dict[str, list[str]] = {}
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0]) if detail["loc"] else ""
            if detail["type"] == "extra_forbidden":
                yield _unknown(f"{prefix}{key}", [f"{prefix}{name}" for name in group.model_fields])
            elif detail["type"] == "missing":
                yield f"{prefix}{key}: missing."
            else:
                seen.setdefault(key, []).append(_expectation(detail["msg"]))
        for key, expected in seen.items():
            hint = _closest(value[key], group, key)
            yield f"{prefix}{key}: expected {' or '.join(expected)}, got {value[key]!r}.{hint}"


def _expectation(message: str) -> str:
    for opening in ("Input should be ", "String should ", "Value error, "):
        message = message.removeprefix(opening)
    return message.replace("match pattern", "text that matches")


def _closest(value: object, group: type[ParameterGroup], key: str) -> str:
    choices = getattr(group.model_fields[key].annotation, "__args__", ())
    names = [choice for choice in choices if isinstance(choice, str)]
    matches = get_close_matches(str(value), names, n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _unknown(key: str, known: list[str]) -> str:
    matches = get_close_matches(key, known, n=1)
    hint = f"Did you mean {matches[0]!r}?" if matches else f"Known are: {', '.join(known)}."
    return f"{key}: no such parameter. {hint}"
