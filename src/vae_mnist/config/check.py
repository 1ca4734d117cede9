"""What is wrong with parameters, in words: one line for each wrong key."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .parameters import GROUPS, Locations, ParameterGroup

_LONGEST = 100  # characters of a value in a message


def parameter_problems(
    parameters: Mapping[str, Any], places: Mapping[str, Any], typed: Mapping[str, Any] | None = None
) -> list[str]:
    """Check all parameters at once, names and folders included.

    Args:
        parameters: the merged parameters of all files and the command line.
        places: what globals.yml says.
        typed: the parameters of the command line alone.

    Returns:
        One line for each wrong key: its whole path, what was expected, what came.
    """
    places = {**places, **{key: value for key, value in (typed or {}).items() if key in Locations.model_fields}}
    problems = group_problems("", Locations, places)
    for key, value in parameters.items():
        if key in GROUPS:
            problems += group_problems(key, GROUPS[key], value)
        elif key not in Locations.model_fields:
            elsewhere = [path for name, group in GROUPS.items() for path in _paths(group, name)]
            problems.append(_unknown(str(key), [*GROUPS, *Locations.model_fields], elsewhere))
        elif value != places.get(key):
            # The catalog does not read the parameters: this value would appear in captions only.
            problems.append(f"{key}: expected in globals.yml or --params, got {_shown(value)} in a parameters file.")
    problems += [
        f"{group}: missing. conf/base/parameters_{group}.yml gives it."
        for group in {*GROUPS, "run"} - parameters.keys()
    ]
    return sorted(problems)


def group_problems(name: str, group: type[ParameterGroup], value: object) -> list[str]:
    """Check one group of parameters, sub-groups included.

    Args:
        name: the group's own path, "model" or "model.flow"; "" for keys of the top level.
        group: its class.
        value: as it was read.

    Returns:
        One line for each wrong key.
    """
    value = _with_text_keys(value)
    lines: list[str] = []
    # A union reports each of its members; one line a key is enough.
    expected: dict[str, tuple[object, list[str]]] = {}
    try:
        group.model_validate(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            keys = _keys(detail["loc"], value)
            path = ".".join(map(str, [name, *keys] if name else keys))
            here = _group_at(group, keys)
            match detail["type"]:
                case "extra_forbidden":
                    parent = _group_at(group, keys[:-1])
                    lines.append(_unknown(path, parent.model_fields if parent else (), _paths(group, name)))
                case "missing":
                    lines.append(f"{path}.{detail['loc'][-1]}".lstrip(".") + ": missing.")
                case "model_type" if here:
                    names = ", ".join(here.model_fields)
                    lines.append(f"{path}: expected a group of parameters ({names}), got {_shown(detail['input'])}.")
                case "value_error" if here:  # a rule about several keys, whose text names them
                    lines.append(str(detail["ctx"]["error"]))
                case _:
                    expected.setdefault(path, (detail["input"], []))[1].append(_expectation(detail["msg"]))
    for path, (came, texts) in expected.items():
        text = " or ".join(texts)
        close = get_close_matches(came, re.findall("'(.*?)'", text), n=1) if isinstance(came, str) else []
        lines.append(f"{path}: expected {text}, got {_shown(came)}." + _did_you_mean(close))
    return list(dict.fromkeys(lines))


def unreadable(error: Exception, folders: Iterable[Path], typed: Iterable[str] = ()) -> str:
    """Say what kept the parameter files from being read.

    Args:
        error: as it came from the reader, which often does not say which file it was in.
        folders: of the environments that were read, conf/base and conf/local.
        typed: what the command line gives.

    Returns:
        File, line if the reader knows it, and reason; where each file by itself can be read, the reader's own words.
    """
    for folder in folders:
        for path in sorted([*folder.rglob("parameters*"), *folder.glob("globals.yml")]):
            if path.suffix in (".yml", ".yaml", ".json") and path.is_file() and (fault := _fault(path)):
                return f"{path}{fault}"
    given = ", ".join(typed)
    return f"{_words(error)} (--params gives {given})" if given else _words(error)


def _fault(path: Path) -> str | None:
    """Why one file cannot be read, perhaps with its line; None if it can."""
    from omegaconf import DictConfig, OmegaConf

    try:
        loaded = OmegaConf.load(path)
    except Exception as error:  # a reader of malformed text can fail in any way
        mark = getattr(error, "problem_mark", None)
        return f"{f', line {mark.line + 1}' if mark else ''}: {_words(error)}"
    if not isinstance(loaded, DictConfig):
        return ": expected keys with values, got a list."
    odd = [key for key in loaded if not isinstance(key, str)]
    return f": expected keys that are text, got {_shown(odd[0])}." if odd else None


def _words(error: Exception) -> str:
    words = " ".join(str(getattr(error, "problem", None) or error).split())
    return words[:500] or type(error).__name__


def _with_text_keys(value: object) -> object:
    """The value with keys as text: YAML has keys that are numbers."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return value


def _keys(location: Iterable[str | int], value: Any) -> list[str | int]:  # noqa: ANN401
    """The keys that lead to an error; pydantic puts the names of a union's members between them."""
    keys: list[str | int] = []
    for part in location:
        with suppress(KeyError, IndexError, TypeError):
            value = value[part]
            keys.append(part)
    return keys


def _group_at(group: type[ParameterGroup], keys: Iterable[str | int]) -> type[ParameterGroup] | None:
    """The class of the group that the keys lead to; None if they lead to something else."""
    for key in keys:
        field = group.model_fields.get(str(key))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, ParameterGroup)):
            return None
        group = kind
    return group


def _paths(group: type[ParameterGroup], name: str) -> Iterator[str]:
    """Every path that a group has, sub-groups included."""
    for key in group.model_fields:
        path = f"{name}.{key}".lstrip(".")
        yield path
        if inner := _group_at(group, [key]):
            yield from _paths(inner, path)


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


def _unknown(path: str, siblings: Iterable[str], elsewhere: Iterable[str]) -> str:
    """Say that there is no such parameter, and what may be meant: the same name elsewhere, or a close one here."""
    prefix, dot, name = path.rpartition(".")
    siblings = list(siblings)
    meant = [other for other in elsewhere if other.rpartition(".")[2] == name]
    meant = meant or [prefix + dot + close for close in get_close_matches(name, siblings, n=1)]
    known = ", ".join(prefix + dot + sibling for sibling in siblings)
    return f"{path}: no such parameter." + (_did_you_mean(meant) or f" Known are: {known}.")


def _did_you_mean(names: list[str]) -> str:
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
