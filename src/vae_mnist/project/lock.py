"""One process at a time on a run."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..errors import RunInUseError
from ..storage.atomic import atomic_write
from ..storage.locks import acquire_lock

LOCK, OWNER = ".lock", ".owner.json"


class Owner(BaseModel):
    """The process that works on a run."""

    model_config = ConfigDict(frozen=True)

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host} since {self.started}"


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
        owner = Owner(pid=os.getpid(), host=socket.gethostname(), started=now())
        with atomic_write(run / OWNER) as temporary:
            temporary.write_text(owner.model_dump_json(), encoding="utf-8")
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
        return str(Owner.model_validate_json((run / OWNER).read_bytes()))
    except (OSError, ValueError):
        return "another process that has only just begun"  # or that ends at this moment
