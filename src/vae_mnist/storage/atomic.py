"""Files that are either whole or not there."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import WriteError

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # .NAME.xxxxxxxx.tmp


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it takes the place of `path` in one step.

    The data reach the disk before the name does, so that a crash leaves the old file, the new one, or none.

    Args:
        path: where the file shall be; missing parent folders are made.
        durable: wait for the disk. Without it a killed process still leaves the old file, the new one, or none, but a
            power cut may leave an empty one.

    Raises:
        WriteError: the disk is full, read-only, forbidden or gone; `path` is then as it was.
    """
    with plain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            if durable:
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
            # mkstemp makes files private; a finished file gets what the user's umask allows.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    if durable:
        _sync_folder(path.parent)


@contextmanager
def plain_write_errors(path: Path, done: str = "written") -> Iterator[None]:
    """Turn what the disk says while something is done to `path` into an error that names it and what to do."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno is None:  # not the disk's: Pillow says so when it knows no such format
            raise
        raise WriteError(
            f"{path}: cannot be {done}: {error.strerror or error}. It is as it was before, and what was finished "
            "earlier is whole. Mend the cause (make room, give the right to write) or choose another folder with "
            "--params=data_root=…, and type the same command again."
        ) from error


def acquire_lock(path: Path, timeout: float) -> FileLock | None:
    """Lock a file, which is made if need be; the operating system lets go when the process dies, however it dies.

    Args:
        path: of the file; it stays behind when the lock is released.
        timeout: seconds to wait.

    Returns:
        The lock, to be released; None if another process, or this one, still holds it.

    Raises:
        WriteError: the folder cannot be written to, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file in place of a lock would outlive a process that is killed.
        lock = FileLock(path, thread_local=False, fallback_to_soft=False)
        lock.acquire(timeout=timeout)
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        raise WriteError(
            f"{path}: cannot be locked: {error}. Give the right to write to its folder, or choose another place with "
            "--params=data_root=… on a file system that has locks."
        ) from error
    return lock


def remove_leftovers(folder: Path | None) -> list[Path]:
    """Remove the temporary files of writers that died; only for a folder that nobody else writes to.

    Args:
        folder: perhaps none; its subfolders are left alone.

    Returns:
        The removed files.

    Raises:
        WriteError: one cannot be removed.
    """
    if folder is None or not folder.is_dir():
        return []
    removed: list[Path] = []
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name):
            with plain_write_errors(path, "removed"):
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _umask() -> int:
    # The only portable way to read the mask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows offers no handle on a folder
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):  # some file systems sync folders by themselves
            return
        raise WriteError(
            f"{folder}: cannot be synced: {error.strerror}. The file that was written last is there and whole; whether "
            "it would be after a power cut is not known. Look after the disk, and type the same command again."
        ) from error
