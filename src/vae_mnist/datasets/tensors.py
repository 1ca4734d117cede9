"""Named tensors in a safetensors file: nothing in it can run."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from safetensors.torch import load_file, save
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
            found = (
                "no such file" if not self._filepath.exists() else "expected a safetensors file, found another thing"
            )
            raise DataError(f"{self._filepath}: {found}. Run kedro run first.")
        try:
            return load_file(self._filepath)
        except Exception as error:  # malformed bytes can fail in any way; each becomes one message
            raise DataError(
                f"{self._filepath}: expected a safetensors file, but it cannot be read ({error}). "
                "Delete it and run the pipeline that makes it again."
            ) from error

    def save(self, data: dict[str, Tensor]) -> None:
        """Write the tensors, whole or not at all; a file that holds just these is left alone.

        Raises:
            OSError: the disk is full, read-only or gone.
        """
        content = save({name: tensor.contiguous() for name, tensor in data.items()})
        # Two runs beside each other make the same digits: the second one need not write them.
        if self._filepath.is_file() and self._filepath.read_bytes() == content:
            return
        with atomic_write(self._filepath) as temporary:
            temporary.write_bytes(content)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
