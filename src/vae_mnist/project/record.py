"""The record of each run: code, parameters, images, packages, machine, start, end."""

import logging
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .lock import now

logger = logging.getLogger(__name__)

PACKAGES = (
    "kedro", "kedro-datasets", "torch", "torchvision", "numpy", "pandas", "matplotlib", "mlxtend", "safetensors",
)  # fmt: skip
# How a run may be narrowed down, by Kedro's names.
SELECTION = (
    "tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces", "only_missing_outputs",
)  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Code(_Part):
    """The version of this package; in a git checkout, also its commit and whether files differ from it."""

    version: str | None
    commit: str | None = None
    dirty: bool | None = None


class Data(_Part):
    """The images that a run worked on."""

    title: str
    sha256: dict[str, str]  # of each split


class RunRecord(_Part):
    """One `kedro run`; run_record.json is a list of them, oldest first."""

    run: str
    pipelines: list[str]
    selection: dict[str, Any] = {}  # of their nodes; empty means all
    started: str
    ended: str | None = None
    cpu_seconds: float | None = None  # process time of all threads, from start to end
    exit: str | None = None  # "finished", "stopped by …" or "failed: …"; None: still running, or killed
    code: Code
    parameters: dict[str, Any]
    data: Data | None = None
    packages: dict[str, str | None]
    machine: dict[str, Any]


RunRecords = list[RunRecord]


def start_record(run_params: Mapping[str, Any], parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> RunRecord:
    """What is known of a run as it starts.

    Args:
        run_params: what Kedro was asked to run, as its hooks receive it.
        parameters: all of them, resolved.
        facts: of the machine: device, precision, threads.
    """
    return RunRecord(
        run=str(parameters["run"]),
        # Some callers of Kedro's hooks give a single name.
        pipelines=run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "__default__"],
        selection={name: chosen for name in SELECTION if (chosen := run_params.get(name))},
        started=now(),
        code=code_version(),
        parameters={name: parameters[name] for name in sorted(parameters)},
        packages={name: _version(name) for name in PACKAGES},
        machine={
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **facts,
        },
    )


def code_version() -> Code:
    """Which code this is."""
    package = Path(__file__).parent
    # A package that is installed inside another repository is not part of it.
    if _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return Code(version=_version("vae_mnist"))
    changes = _git(package, "status", "--porcelain")
    return Code(version=_version("vae_mnist"), commit=_git(package, "rev-parse", "HEAD"), dirty=bool(changes))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *words],  # noqa: S607 the user's own git
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("the commit is not known: %s: %s", error, getattr(error, "stderr", None))
        return None
    return answer.stdout.strip()
