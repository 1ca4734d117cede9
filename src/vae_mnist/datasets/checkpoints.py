"""The checkpoints of a run: one file per epoch in one folder."""

import logging
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from ..errors import CheckpointError, DamagedCheckpointError
from ..storage.atomic import plain_write_errors
from ..storage.checkpoints import FILE_NAME, Checkpoint, checkpoint_name, read_checkpoint, write_checkpoint

logger = logging.getLogger(__name__)

Saved = dict[str, Callable[[], Checkpoint] | None]
Partitions = dict[str, Callable[[], Checkpoint | None]]


class CheckpointsDataset(AbstractDataset[Saved, Partitions]):
    """{"vae_epoch_001": function that gives the checkpoint, …} <-> vae_epoch_001.pt, …; loading sorts oldest first.

    Saving epoch e first removes the epochs after e, which an earlier training of the same name has left: a folder never
    holds epochs of two trainings. A value of None removes that checkpoint.

    Args:
        path: the folder.
        required: True raises for a folder without checkpoints and for a damaged one; False is for resuming a run: no
            checkpoint gives {}, and each function gives the newest undamaged one, or None; newer ones are renamed then,
            with a warning.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, required: bool = True, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self._required = required
        self.metadata = metadata

    def load(self) -> Partitions:
        """Find the checkpoints; each is read when its function is called.

        Raises:
            CheckpointError: there are none, and they are required.
        """
        paths = list(self._found().values())
        if not self._required:
            return dict.fromkeys((path.stem for path in paths), partial(_newest_whole, paths))
        if not paths:
            raise CheckpointError(self.missing())
        return {path.stem: partial(read_checkpoint, path) for path in paths}

    def save(self, data: Saved) -> None:
        """Write each checkpoint, whole or not at all, then remove those that are None and still there.

        Raises:
            CheckpointError: the epoch before is gone, or a name is not that of its epoch.
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        for name, take in data.items():
            if take is not None:
                self._write(name, take())
        for path in self._found().values():
            if path.stem in data and data[path.stem] is None:
                _remove(path)

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        epoch, found = checkpoint.epoch, self._found()
        if name != checkpoint_name(epoch):
            raise CheckpointError(f"expected the name {checkpoint_name(epoch)} for epoch {epoch}, got {name!r}.")
        if epoch > 1 and epoch - 1 not in found:
            raise CheckpointError(
                f"expected {checkpoint_name(epoch - 1)}.pt under {self._path} when writing epoch {epoch}, found "
                f"{', '.join(path.name for path in found.values()) or 'no checkpoints'}: files were moved or deleted "
                f"during the run. Epoch {epoch} was not written, and what is still there is whole. Put the files back, "
                "or leave them, and start kedro run again: it resumes from the newest there is."
            )
        # Newest first: a crash in between leaves the beginning of the old training, not a mixture.
        for later in sorted((later for later in found if later > epoch), reverse=True):
            _remove(found[later])
        write_checkpoint(checkpoint, self._path / f"{name}.pt")

    def missing(self) -> str:
        """What to say when there are no checkpoints."""
        return f"no checkpoints of run {self._path.name!r} under {self._path}: run kedro run first"

    def _found(self) -> dict[int, Path]:
        matches = ((FILE_NAME.fullmatch(path.name), path) for path in self._path.glob("vae_epoch_*.pt"))
        return dict(sorted((int(match[1]), path) for match, path in matches if match))

    def _exists(self) -> bool:
        return bool(self._found()) or not self._required

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix(), "required": self._required}


def _remove(path: Path) -> None:
    with plain_write_errors(path, "removed"):
        path.unlink(missing_ok=True)


def _newest_whole(paths: list[Path]) -> Checkpoint | None:
    """Newest undamaged checkpoint; later damaged ones are renamed."""
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except DamagedCheckpointError as error:
            logger.warning("%s It is now %s.", error, _set_aside(path).name)
    return None


def _set_aside(path: Path) -> Path:
    """Rename to vae_epoch_001.pt.damaged, or .damaged.2, …: nothing is overwritten."""
    names = (f"{path.name}.damaged{f'.{number}' if number > 1 else ''}" for number in count(1))
    free = next(name for name in names if not os.path.lexists(path.with_name(name)))
    with plain_write_errors(path, "set aside"):
        return path.rename(path.with_name(free))
