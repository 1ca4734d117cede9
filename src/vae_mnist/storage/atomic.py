"""Files that are either whole or not there."""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WriteError

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # .NAME.xxxxxxxx.tmp


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it replaces `path` in one step.

    The data reach the disk before the name does, so a crash leaves the old file, the new one, or none.

    Args:
        path: the file to write; missing parent folders are made.
        durable: wait for the disk. Without it a killed process still leaves the old file, the new one, or none, but a
            power cut may leave an empty one.

    Raises:
        WriteError: the disk is full, read-only, forbidden or gone; `path` is then as it was.
    """
    with plain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        temporary.touch(exist_ok=False)  # with the rights that the user's umask gives
        try:
            yield temporary
            if durable:
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
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
            "earlier is whole. Fix the cause (free space, grant write access) or choose another folder with "
            "--params=data_root=…, then run the same command again."
        ) from error


def remove_leftovers(folder: Path | None, min_age: float = 0.0) -> list[Path]:
    """Remove the temporary files of writers that died.

    Args:
        folder: perhaps none; its subfolders are left alone.
        min_age: seconds since the last change; more than 0 for a folder that other processes may be writing to.

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
            with plain_write_errors(path, "removed"), suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= min_age:
                    path.unlink()
                    removed.append(path)
    return removed


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
            f"{folder}: cannot be synced: {error.strerror}. The file written last is there and whole, but might not "
            "survive a power cut. Check the disk, then run the same command again."
        ) from error
