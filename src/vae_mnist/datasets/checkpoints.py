"""The checkpoints of a run: one file an epoch in one folder."""

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from ..errors import CheckpointError, DamagedCheckpointError
from ..storage.atomic import plain_write_errors
from ..storage.checkpoints import Checkpoint, checkpoint_name, read_checkpoint, write_checkpoint

logger = logging.getLogger(__name__)

_NAME = re.compile(r"vae_epoch_(\d+)\.pt")

Partitions = dict[str, Callable[[], Checkpoint | None]]


class CheckpointsDataset(AbstractDataset[dict[str, Checkpoint | Callable[[], Checkpoint]], Partitions]):
    """{"vae_epoch_001": checkpoint, …} <-> vae_epoch_001.pt, …; loading gives one function per file, oldest first.

    Saving epoch e ends the run at epoch e: later epochs, left by an earlier training of the same name, go first.
    So a folder never holds epochs of two trainings.

    Args:
        path: the folder.
        required: True raises for a folder without checkpoints and for a damaged one; False is for going on with a run:
            no checkpoint gives {}, and a damaged one is set aside when it is read, with a warning, for the newest
            whole one before it, or None.
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
        found = self._found()
        if not found and self._required:
            raise CheckpointError(self.missing())
        if self._required:
            return {path.stem: partial(read_checkpoint, path) for path in found.values()}
        paths = list(found.values())
        return {path.stem: partial(_newest_whole, paths[: place + 1]) for place, path in enumerate(paths)}

    def save(self, data: dict[str, Checkpoint | Callable[[], Checkpoint]]) -> None:
        """Write each checkpoint, whole or not at all; one that is a function is taken when its turn comes.

        Raises:
            CheckpointError: the epoch before it is gone, or its name is another epoch's.
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        for name, value in data.items():
            checkpoint = value() if callable(value) else value
            epoch = checkpoint["epoch"]
            if name != checkpoint_name(epoch):
                raise CheckpointError(f"expected the name {checkpoint_name(epoch)} for epoch {epoch}, got {name!r}.")
            found = self._found()
            if epoch > 1 and epoch - 1 not in found:
                raise CheckpointError(
                    f"expected {checkpoint_name(epoch - 1)}.pt under {self._path} as epoch {epoch} was to be written, "
                    f"found {', '.join(path.name for path in found.values()) or 'no checkpoints'}: files were moved or "
                    f"deleted while the run went on. Epoch {epoch} was not written, and what is still there is whole. "
                    "Put the files back, or leave them, and start kedro run again: it goes on from the newest there is."
                )
            # Newest first: a crash in between leaves the beginning of the old training, not a mixture.
            for later, path in sorted(found.items(), reverse=True):
                if later > epoch:
                    with plain_write_errors(path, "removed"):
                        path.unlink()
            write_checkpoint(checkpoint, self._path / f"{name}.pt")

    def missing(self) -> str:
        """What to say when there are no checkpoints."""
        return f"no checkpoints of run {self._path.name!r} under {self._path}: run kedro run first"

    def _found(self) -> dict[int, Path]:
        matches = ((_NAME.fullmatch(path.name), path) for path in self._path.glob("vae_epoch_*.pt"))
        return dict(sorted((int(match[1]), path) for match, path in matches if match))

    def _exists(self) -> bool:
        return bool(self._found()) or not self._required

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix(), "required": self._required}


def _newest_whole(paths: list[Path]) -> Checkpoint | None:
    """The last checkpoint that is whole; damaged ones after it are set aside."""
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
