"""One process at a time on a run, digits that nobody exchanges under a run's feet, and a record of what was done."""

import json
import logging
import os
import platform
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import RunInUseError
from ..storage.atomic import atomic_write
from ..storage.locks import acquire_lock

logger = logging.getLogger(__name__)

LOCK, OWNER = ".lock", ".owner.json"
PACKAGES = (
    "kedro",
    "kedro-datasets",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "matplotlib",
    "mlxtend",
    "safetensors",
)

# Long enough for someone who only asks whether a lock is held, short for someone who waits.
PATIENCE_SECONDS = 1.0


class RunLock:
    """Held while a process works on a run; the operating system lets go when the process dies, however it dies.

    Args:
        folder: of the run's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: FileLock | None = None
        self._owner: dict[str, Any] = {}

    def acquire(self) -> None:
        """Take the run.

        Raises:
            RunInUseError: naming the process that has it.
            WriteError: the folder cannot be written to.
        """
        lock = acquire_lock(self.folder / LOCK, timeout=PATIENCE_SECONDS)
        if lock is None:
            raise RunInUseError(
                f"run {self.folder.name!r} is being worked on by {_described(_read_owner(self.folder))}. "
                "Wait for it, stop it, or choose another run name: --params=run=…"
            )
        self._lock = lock
        self._owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": now(),
            "uses_digits": False,
        }
        self._write_owner()

    def use_digits(self) -> None:
        """Say that this run reads the digits as they lie there now."""
        self._owner["uses_digits"] = True
        self._write_owner()

    def release(self) -> None:
        """Give the run back; nothing happens if it is not held."""
        if self._lock is not None:
            with suppress(OSError):  # a disk gone bad; a name without a lock means nothing
                (self.folder / OWNER).unlink()
            self._lock.release()
            self._lock = None

    def _write_owner(self) -> None:
        with atomic_write(self.folder / OWNER) as temporary:
            temporary.write_text(json.dumps(self._owner), encoding="utf-8")


def lock_digits(folder: Path) -> FileLock:
    """Wait until nobody else makes digits in this folder, and keep others from it until the lock is released.

    Raises:
        WriteError: the folder cannot be written to.
    """
    lock = acquire_lock(folder / LOCK, timeout=0)
    if lock is None:
        logger.info("waiting for another process that is making digits in %s", folder)
    while lock is None:
        lock = acquire_lock(folder / LOCK, timeout=60)
    return lock


def digits_users(models: Path, *, but: Path | None = None) -> Iterator[str]:
    """Describe the living runs that use the digits.

    Args:
        models: the folder of all runs' checkpoint folders.
        but: the run that asks.
    """
    for owner_file in sorted(models.glob(f"*/{OWNER}")):
        folder = owner_file.parent
        if folder != but and (owner := _read_owner(folder)).get("uses_digits") and _is_held(folder / LOCK):
            yield f"run {folder.name!r} ({_described(owner)})"


def start_record(
    run: str, pipelines: list[str], parameters: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a run as it starts (JSON).

    Args:
        run: its name.
        pipelines: that it goes through.
        parameters: all of them, resolved.
        facts: of the machine: device, precision, threads.
    """
    return {
        "run": run,
        "pipelines": pipelines,
        "started": now(),
        "ended": None,
        "exit": None,  # stays so if the process is killed
        "code": code_version(),
        "parameters": {name: parameters[name] for name in sorted(parameters)},
        "data": None,
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **facts,
        },
    }


def code_version() -> dict[str, Any]:
    """The package's version and, where it lies in a git checkout, the commit and whether files differ from it."""
    code: dict[str, Any] = {"version": _version("vae_mnist"), "commit": None, "dirty": None}
    package = Path(__file__).parent
    # A package that was installed beside somebody's own repository is not part of it.
    if _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is not None:
        code["commit"] = _git(package, "rev-parse", "HEAD")
        code["dirty"] = bool(_git(package, "status", "--porcelain", "--", ":/"))
    return code


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_held(path: Path) -> bool:
    lock = acquire_lock(path, timeout=0)
    if lock is None:
        return True
    lock.release()
    return False


def _read_owner(folder: Path) -> dict[str, Any]:
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it has only just begun, or ends in this moment
    return owner if isinstance(owner, dict) else {}


def _described(owner: Mapping[str, Any]) -> str:
    if not owner:
        return "another process that has only just begun"
    itself = (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname())
    hint = " (this process itself: a run was interrupted in it; in a notebook, restart the kernel)" if itself else ""
    return f"process {owner.get('pid')} on host {owner.get('host')} since {owner.get('started')}{hint}"


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
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
