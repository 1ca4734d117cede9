"""A mixin that makes one of Kedro's own datasets write its file whole or not at all."""

import copy
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import DatasetError

from ..errors import DataError
from ..storage.atomic import atomic_write


class AtomicFile:
    """Mixin for a dataset of one local file; it must be the first base class."""

    durable = True  # whether a saved file outlives a power cut
    _filepath: PurePosixPath

    def save(self, data: Any) -> None:  # noqa: ANN401
        """Write a temporary file next to it, then rename.

        Raises:
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        with atomic_write(Path(self._filepath), durable=self.durable) as temporary:
            writer = copy.copy(self)
            writer._filepath = PurePosixPath(temporary)  # noqa: SLF001 a copy of itself
            try:
                super(AtomicFile, writer).save(data)  # type: ignore[misc]
            except DatasetError as error:
                if isinstance(error.__cause__, OSError):  # Kedro has wrapped it
                    raise error.__cause__ from None
                raise

    def load(self) -> Any:  # noqa: ANN401
        """Read the file.

        Raises:
            DataError: it is missing, unreadable or damaged.
        """
        try:
            return super().load()  # type: ignore[misc]
        except DatasetError as error:
            if isinstance(error.__cause__, OSError | ValueError):
                raise DataError(
                    f"{self._filepath}: cannot be read: {error.__cause__}. "
                    "Delete it and run the pipeline that makes it again."
                ) from error
            raise
