"""Locks on files, held by the operating system: they end with their process, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import WriteError


def acquire_lock(path: Path, timeout: float) -> FileLock | None:
    """Lock a file, which is made if need be.

    Args:
        path: the file; it stays behind when the lock is released.
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
            f"{path}: cannot be locked: {error}. Grant write access to its folder, or choose another place with "
            "--params=data_root=… on a file system that has locks."
        ) from error
    return lock
