"""Named tensors in a safetensors file: nothing in it can run."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import DataError
from ..files import atomic_write


class TensorsDataset(AbstractDataset[dict[str, Tensor], dict[str, Tensor]]):
    """A dict of tensors <-> one .safetensors file; loading maps the file instead of copying it.

    Args:
        filepath: of the file.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Tensor]:
        """Read the tensors.

        Raises:
            DataError: the file is missing or damaged.
        """
        if not self._filepath.is_file():
            raise DataError(f"{self._filepath}: no such file. Run kedro run first.")
        try:
            return load_file(self._filepath)
        except SafetensorError as error:
            raise DataError(
                f"{self._filepath}: expected a safetensors file, but it cannot be read ({error}). "
                "Delete it and run the pipeline that makes it again."
            ) from error

    def save(self, data: dict[str, Tensor]) -> None:
        """Write the tensors, whole or not at all."""
        with atomic_write(self._filepath) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in data.items()}, temporary)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
