"""Whether a run may go on: the same settings and the same digits."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..config.parameters import ParameterGroup
from ..errors import ResumeError

# What may differ when a run goes on: it changes how long or where, not what is computed.
FREE_SETTINGS = frozenset(f"train.{name}" for name in ("epochs", "resume", "device", "threads", "processes", "compile"))
LENGTH = "train.epochs"  # is not free where the learning rate falls towards the end


def run_settings(**groups: ParameterGroup) -> dict[str, Any]:
    """Parameters that decide what training computes, as {"group.name": value}."""
    settings = {
        f"{group}.{name}": value for group, config in groups.items() for name, value in config.model_dump().items()
    }
    free = FREE_SETTINGS - ({LENGTH} if settings.get("train.schedule") in ("linear", "cosine") else set())
    return {key: value for key, value in settings.items() if key not in free}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Identify settings, hexadecimal sha256."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()


def check_resume(
    checkpoint: Mapping[str, Any], run: str, settings: Mapping[str, Any], data_card: Mapping[str, Any]
) -> None:
    """Refuse to go on with other settings or other digits.

    Raises:
        ResumeError: naming each difference, and both ways on.
    """
    old = checkpoint["settings"]
    changed = [key for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    differences = [
        f"{key}: the run {run!r} has {old.get(key)!r}, you ask for {settings.get(key)!r}." for key in changed
    ]
    name = "".join(_short(key, settings[key]) for key in changed if key in settings)
    overrides = "".join(f",{key}={settings[key]}" for key in changed if key in settings)
    if checkpoint["dataset"].get("sha256") != data_card["sha256"]:
        differences.append(
            f"data: the run {run!r} was trained on {checkpoint['dataset'].get('title')}; "
            f"the digits now are {data_card['title']}"
            + (", but other ones." if checkpoint["dataset"].get("title") == data_card["title"] else ".")
        )
    if differences:
        raise ResumeError(
            "\n".join(differences)
            + (" " if len(differences) == 1 else "\n")
            + f"Choose another run name: --params=run={name or 'other'}{overrides} - or start over: "
            "--params=train.resume=false"
        )


def _short(key: str, value: object) -> str:
    """Part of a run name for a changed setting: model.latent_dim = 16 -> z16."""
    abbreviations = {"latent_dim": "z", "hidden_dim": "h", "batch_size": "batch", "learning_rate": "lr"}
    name = key.rpartition(".")[2]
    return f"{abbreviations.get(name, name)}{value}"
