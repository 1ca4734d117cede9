"""The checkpoints of a run: one file an epoch in one folder."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from ..checkpoints import Checkpoint, checkpoint_name, read_checkpoint, write_checkpoint
from ..errors import CheckpointError

_NAME = re.compile(r"vae_epoch_(\d+)\.pt")

Partitions = dict[str, Callable[[], Checkpoint]]


class CheckpointsDataset(AbstractDataset[dict[str, Checkpoint | Callable[[], Checkpoint]], Partitions]):
    """{"vae_epoch_001": checkpoint, …} <-> vae_epoch_001.pt, …; loading gives one function per file, oldest first.

    Saving epoch e ends the run at epoch e: later epochs, left by an earlier training of the same name, go first.
    So a folder never holds epochs of two trainings.

    Args:
        path: the folder.
        required: False gives {} for a folder without checkpoints, where True raises.
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
        return {path.stem: partial(read_checkpoint, path) for path in found.values()}

    def save(self, data: dict[str, Checkpoint | Callable[[], Checkpoint]]) -> None:
        """Write each checkpoint, whole or not at all; one that is a function is taken when its turn comes."""
        for name, value in data.items():
            checkpoint = value() if callable(value) else value
            epoch = checkpoint["epoch"]
            if name != checkpoint_name(epoch):
                raise CheckpointError(f"expected the name {checkpoint_name(epoch)} for epoch {epoch}, got {name!r}.")
            # Newest first: a crash in between leaves the beginning of the old training, not a mixture.
            for later, path in sorted(self._found().items(), reverse=True):
                if later > epoch:
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
