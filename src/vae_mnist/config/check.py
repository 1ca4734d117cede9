"""Messages about wrong parameters: one line for each wrong key."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .parameters import Locations, Parameters
from .types import ParameterGroup

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
    names = Locations.model_fields.keys()
    places = {**places, **{key: value for key, value in (typed or {}).items() if key in names}}
    groups = {key: value for key, value in parameters.items() if key not in names}
    problems = problems_in({**places, **groups})
    for key in places.keys() & groups.keys():
        problems.append(f"{key}: expected in a parameters file or --params, got {_shown(places[key])} in globals.yml.")
    for key in names & parameters.keys():
        # The catalog does not read the parameters: another value would appear in captions only.
        if parameters[key] != places.get(key):
            value = _shown(parameters[key])
            problems.append(f"{key}: expected in globals.yml or --params, got {value} in a parameters file.")
    if "run" not in parameters:
        problems.append("run: missing. conf/base/parameters_run.yml gives it.")
    return sorted(problems)


def problems_in(values: object, whole: type[ParameterGroup] = Parameters) -> list[str]:
    """Check the values of a group of parameters, sub-groups included.

    Args:
        values: as they were read.
        whole: the class of the group.

    Returns:
        One line for each wrong key.
    """
    values = _with_text_keys(values)
    lines: list[str] = []
    groups = _groups(whole)
    # A union reports each of its members; one line a key is enough.
    expected: dict[str, tuple[object, list[str]]] = {}
    try:
        whole.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            keys = _keys(detail["loc"], values)
            path = ".".join(keys)
            group = groups.get(path)
            match detail["type"]:
                case "extra_forbidden":
                    lines.append(_unknown(keys, groups))
                case "missing":
                    path = ".".join(map(str, detail["loc"]))
                    file = "globals" if path in Locations.model_fields else f"parameters_{detail['loc'][0]}"
                    lines.append(f"{path}: missing. conf/base/{file}.yml gives it.")
                case "model_type" if group:
                    names = ", ".join(group.model_fields)
                    lines.append(f"{path}: expected a group of parameters ({names}), got {_shown(detail['input'])}.")
                case "value_error" if group:  # rules about several keys, a line each, which name the keys
                    lines += str(detail["ctx"]["error"]).splitlines()
                case _:
                    expected.setdefault(path, (detail["input"], []))[1].append(_expectation(detail["msg"]))
    for path, (came, texts) in expected.items():
        text = " or ".join(texts)
        close = get_close_matches(came, re.findall("'(.*?)'", text), n=1) if isinstance(came, str) else []
        lines.append(f"{path}: expected {text}, got {_shown(came)}." + _did_you_mean(close))
    return lines


def unreadable(error: Exception, folders: Iterable[Path], typed: Iterable[str] = ()) -> str:
    """Say what kept the parameter files from being read.

    Args:
        error: as raised by the reader, which often does not say in which file.
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


def _keys(location: Iterable[str | int], value: Any) -> list[str]:  # noqa: ANN401
    """The keys that lead to an error; pydantic puts the names of a union's members between them."""
    keys: list[str] = []
    for part in location:
        with suppress(KeyError, IndexError, TypeError):
            value = value[part]
            keys.append(str(part))
    return keys


def _groups(group: type[ParameterGroup], path: str = "") -> dict[str, type[ParameterGroup]]:
    """The classes of a group and of its sub-groups by their paths."""
    found = {path: group}
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, ParameterGroup):
            found |= _groups(field.annotation, f"{path}.{name}".lstrip("."))
    return found


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


def _unknown(keys: list[str], groups: Mapping[str, type[ParameterGroup]]) -> str:
    """Say that there is no such parameter, and what may be meant: the same name elsewhere, or a close one here."""
    *above, name = keys
    siblings = groups[".".join(above)].model_fields
    meant = [f"{path}.{name}".lstrip(".") for path, group in groups.items() if name in group.model_fields]
    meant = meant or [".".join([*above, close]) for close in get_close_matches(name, siblings, n=1)]
    known = ", ".join(".".join([*above, sibling]) for sibling in siblings)
    return f"{'.'.join(keys)}: no such parameter." + (_did_you_mean(meant) or f" Known are: {known}.")


def _did_you_mean(names: list[str]) -> str:
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
