"""Named tensors in a safetensors file, which cannot hold code."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from kedro.io import AbstractDataset, DatasetError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import DataError
from ..storage.atomic import atomic_write


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
        if not self._exists():  # reading from a pipe would wait for ever
            raise DataError(f"{self._filepath}: expected a safetensors file, found none. Run kedro run first.")
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
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        # Two runs at the same time make the same images: the second need not write them.
        if self._holds(data):
            return
        with atomic_write(self._filepath) as temporary:
            try:
                save_file({name: tensor.contiguous() for name, tensor in data.items()}, temporary)
            except SafetensorError as error:  # "… No space left on device (os error 28)"
                number = re.search(r"\(os error (\d+)\)", str(error))
                if number is None:
                    raise
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error

    def _holds(self, data: dict[str, Tensor]) -> bool:
        try:
            old = self.load() if self._exists() else {}
        except DatasetError:  # damaged: to be replaced
            return False
        return old.keys() == data.keys() and all(
            old[name].dtype == tensor.dtype
            and old[name].shape == tensor.shape
            and torch.equal(*(each.contiguous().flatten().view(torch.uint8) for each in (old[name], tensor)))  # bits
            for name, tensor in data.items()
        )

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
