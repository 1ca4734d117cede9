"""Judges: a file for each data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from torch import Tensor

from ..errors import DataError
from .tensors import TensorsDataset

Judges = Callable[[str], Mapping[str, Tensor] | None]  # of the data set's sha256; None: there is none


class JudgesDataset(AbstractDataset[dict[str, dict[str, Tensor]], Judges]):
    """{sha256 of a data set: tensors of its judge} <-> <path>/<sha256>.safetensors; saving keeps the others.

    Args:
        path: of their folder.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Judges:
        """A function that reads a judge: None if there is none, or it is damaged, in which case it is made again."""

        def judge(sha256: str) -> Mapping[str, Tensor] | None:
            try:
                return self._file(sha256).load()
            except (DataError, DatasetError):
                return None

        return judge

    def save(self, data: dict[str, dict[str, Tensor]]) -> None:
        """Write each, whole or not at all.

        Raises:
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        for sha256, tensors in data.items():
            self._file(sha256).save(tensors)

    def _file(self, sha256: str) -> TensorsDataset:
        return TensorsDataset(filepath=str(self._path / f"{sha256}.safetensors"))

    def _exists(self) -> bool:
        return True  # that there are none is an answer as well

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix()}
