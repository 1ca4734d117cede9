"""One process at a time on a run."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..errors import RunInUseError
from ..storage.atomic import atomic_write
from ..storage.locks import acquire_lock

LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Keep other processes from a run; the operating system lets go when this process dies.

    Args:
        run: the folder of its checkpoints.

    Raises:
        RunInUseError: another process has it; names that process.
        WriteError: the folder cannot be written to.
    """
    lock = acquire_lock(run / LOCK, timeout=0)
    if lock is None:
        raise RunInUseError(
            f"run {run.name!r} is being worked on by {_owner(run)}. "
            "Wait for it, stop it, or choose another run name: --params=run=…"
        )
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": now()}
        with atomic_write(run / OWNER) as temporary:
            temporary.write_text(json.dumps(owner), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # a disk gone bad; an owner without a lock means nothing
            (run / OWNER).unlink()
        lock.release()


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _owner(run: Path) -> str:
    try:
        owner = json.loads((run / OWNER).read_bytes())
        return f"process {owner['pid']} on host {owner['host']} since {owner['started']}"
    except Exception:  # not signed yet, or no more, or not by `hold`
        return "another process that has only just begun"
