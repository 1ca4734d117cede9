"""Every parameter group as a frozen class: types and ranges here, values and reasons in conf/base."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Seed = Annotated[int, Field(ge=0, lt=2**63)]

NAME_BYTES, PATH_BYTES = 255, 3072  # Linux takes 255 and 4,096, and longer names lie below the folder
_LONGEST = 100  # characters of a value in a message


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
    validation_size: Annotated[int, Field(ge=0, le=10**9)]


class ModelConfig(ParameterGroup):
    """Which model to build; the image size follows from the data."""

    name: Literal["vae"]
    latent_dim: Annotated[int, Field(ge=1, le=4096)]
    hidden_dim: Annotated[int, Field(ge=1, le=65_536)]


class ObjectiveConfig(ParameterGroup):
    """What training minimises: reconstruction + beta x KL, in nats per image."""

    beta: Annotated[float, Field(ge=0.0, le=10_000.0)]


class TrainConfig(ParameterGroup):
    """How training runs."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)]
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)]
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)]
    output_bias: Literal["random", "data"]
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"]
    # torch itself takes cuda:128 for cuda:-128
    device: Annotated[
        str,
        _text(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", "auto, cpu, cuda, cuda:1 (or another number) or mps"),
    ]
    seed: Seed
    resume: bool
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    processes: Annotated[int, Field(ge=1, le=64)]
    compile: bool


class EvaluateConfig(ParameterGroup):
    """What is measured on the newest checkpoint."""

    importance_samples: Annotated[int, Field(ge=1, le=1_000_000)]
    binarisation: Literal["dynamic", "none"]
    seed: Seed
    chunk_size: Annotated[int, Field(ge=1, le=16_777_216)]


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
        raise ValueError(
            f"the path of a folder, each name in it at most {NAME_BYTES} bytes and all of it at most {PATH_BYTES:,}"
        )
    return value


FolderPath = Annotated[str, AfterValidator(_folder_path)]


class Locations(ParameterGroup):
    """Names and folders: they stand in globals.yml, because the catalog needs them as well, or on the command line."""

    run: Annotated[
        str,
        BeforeValidator(_number_as_name),
        _text(
            r"(?!(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|\Z))[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?",
            "a name of at most 64 letters, digits, '.', '_' and '-' that begins with a letter or digit, does not end "
            "in '.' and is no device of Windows (con, nul, com1, …)",
        ),
    ]
    data_root: FolderPath
    mnist_root: FolderPath = ""  # not given: <data_root>/01_raw


GROUPS: dict[str, type[ParameterGroup]] = {
    "ingest": IngestConfig,
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "generate": GenerateConfig,
}


def parameter_problems(
    parameters: Mapping[str, Any], places: Mapping[str, Any], typed: Mapping[str, Any] | None = None
) -> list[str]:
    """Check all parameters at once, names and folders included.

    Args:
        parameters: the merged parameters of all files and the command line.
        places: what globals.yml says.
        typed: the parameters of the command line alone.

    Returns:
        One line for each wrong key: its name, what was expected, what came.
    """
    places = {**places, **{key: value for key, value in (typed or {}).items() if key in Locations.model_fields}}
    problems = list(_problems(Locations, places, prefix=""))
    for key, value in parameters.items():
        if key in GROUPS:
            problems += _problems(GROUPS[key], value, prefix=f"{key}.")
        elif key not in Locations.model_fields:
            problems.append(_unknown(str(key), [*GROUPS, *Locations.model_fields]))
        elif value != places.get(key):
            # The catalog does not read the parameters: this value would stand in captions and nowhere else.
            problems.append(f"{key}: expected in globals.yml or --params, got {_shown(value)} in a parameters file.")
    problems += [
        f"{group}: missing. conf/base/parameters_{group}.yml gives it."
        for group in {*GROUPS, "run"} - parameters.keys()
    ]
    return sorted(problems)


def unreadable(error: Exception, folders: Iterable[Path]) -> str:
    """Say what kept the parameter files from being read.

    Args:
        error: as it came from the reader, which often does not say which file it was in.
        folders: of the environments that were read, conf/base and conf/local.

    Returns:
        File, line and reason; where each file by itself can be read, the reader's own words.
    """
    found = (
        fault
        for folder in folders
        for path in sorted([*folder.rglob("parameters*"), *folder.glob("globals.yml")])
        if path.suffix in (".yml", ".yaml", ".json") and path.is_file() and (fault := _fault(path))
    )
    return next(found, None) or _words(error)


def _fault(path: Path) -> str | None:
    """Why one file cannot be read, with its line; None if it can."""
    content = path.read_bytes()
    error = _read_error(content)
    if error is None:
        return None
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        line = mark.line + 1
    elif isinstance(error, UnicodeDecodeError):
        line = content.count(b"\n", 0, error.start) + 1
    else:  # the first line with which it goes wrong
        lines = content.splitlines(keepends=True)
        starts = (n for n in range(1, len(lines)) if type(_read_error(b"".join(lines[:n]))) is type(error))
        line = next(starts, len(lines))
    return f"{path}, line {line}: {_words(error)}"


def _read_error(content: bytes) -> Exception | None:
    from io import StringIO

    from omegaconf import DictConfig, OmegaConf

    try:
        loaded = OmegaConf.load(StringIO(content.decode()))
        if not isinstance(loaded, DictConfig):
            raise TypeError("expected keys with values, got a list.")  # noqa: TRY301
        for key in loaded:
            if not isinstance(key, str):
                raise TypeError(f"expected keys that are text, got {_shown(key)}.")  # noqa: TRY301
    except Exception as error:  # a reader of malformed text can fail in any way
        return error
    return None


def _words(error: Exception) -> str:
    words = " ".join(str(getattr(error, "problem", None) or error).split())
    return words[:500] or type(error).__name__


def _problems(group: type[ParameterGroup], value: object, prefix: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        names = ", ".join(group.model_fields)
        yield f"{prefix.rstrip('.')}: expected a group of parameters ({names}), got {_shown(value)}."
        return
    values = {str(key): item for key, item in value.items()}  # YAML has keys that are numbers
    try:
        group.model_validate(values)
    except ValidationError as error:
        # A union reports each of its members; one line a key is enough.
        seen: dict[str, list[str]] = {}
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                yield _unknown(f"{prefix}{key}", [f"{prefix}{name}" for name in group.model_fields])
            elif detail["type"] == "missing":
                yield f"{prefix}{key}: missing."
            else:
                seen.setdefault(key, []).append(_expectation(detail["msg"]))
        for key, expected in seen.items():
            hint = _closest(values[key], group, key)
            yield f"{prefix}{key}: expected {' or '.join(expected)}, got {_shown(values[key])}.{hint}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _expectation(message: str) -> str:
    for opening in ("Input should be ", "String should ", "Value error, "):
        message = message.removeprefix(opening)
    return message.replace("match pattern", "text that matches")


def _closest(value: object, group: type[ParameterGroup], key: str) -> str:
    choices = getattr(group.model_fields[key].annotation, "__args__", ())
    names = [choice for choice in choices if isinstance(choice, str)]
    matches = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _unknown(key: str, known: list[str]) -> str:
    matches = get_close_matches(key, known, n=1)
    hint = f"Did you mean {matches[0]!r}?" if matches else f"Known are: {', '.join(known)}."
    return f"{key}: no such parameter. {hint}"
