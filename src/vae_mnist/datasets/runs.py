"""The files of all runs below one folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from re import fullmatch
from typing import Any

import torch
from kedro.io import AbstractDataset, DatasetError
from torch import Tensor

from ..config.parameters import RUN_NAME
from ..errors import CheckpointError, DataError, VaeMnistError
from ..measures.runs import RunFiles, StoredRun
from ..storage.checkpoints import Checkpoint
from .checkpoints import CheckpointsDataset
from .records import RecordDataset
from .tensors import TensorsDataset

logger = logging.getLogger(__name__)

BOUNDS = ("neg_elbo", "importance_weighted_nll")


class RunsDataset(AbstractDataset[None, dict[str, StoredRun]]):
    """{name of a run: functions that read its files}, sorted; a run has a record or metrics.

    No lock is taken: each file is written whole, so that runs can be read while they train. What is missing or damaged
    is left out, the latter with a warning.

    Args:
        path: data_root.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> dict[str, StoredRun]:
        """Find the runs."""
        return {name: self._stored(name) for name in self._names()}

    def save(self, data: None) -> None:  # noqa: ARG002 Kedro's signature
        """Refused: a run writes its own files.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self._path}: runs are read only.")

    def missing(self) -> str:
        """What to say when there are no runs."""
        return f"no runs under {self._path / '07_model_output'}: run kedro run first"

    def _names(self) -> list[str]:
        found = self._path.glob("07_model_output/*/*.json")
        names = {path.parent.name for path in found if path.name in ("run_record.json", "metrics.json")}
        return sorted(name for name in names if fullmatch(RUN_NAME, name))

    def _stored(self, name: str) -> StoredRun:
        return StoredRun(lambda: self._read(name), lambda: self._newest(name))

    def _read(self, name: str) -> RunFiles:
        folder, remarks = self._path / "07_model_output" / name, list[str]()

        def read(file: str, load: Callable[[str], Any], without: str) -> Any:  # noqa: ANN401 as `load` gives it
            path = folder / file
            if path.exists():
                try:
                    return load(str(path))
                except (DataError, DatasetError) as error:
                    logger.warning("run %s: left out: %s", name, error.__cause__ or error)  # Kedro may have wrapped it
                    remarks.append(f"{file} is damaged")
            elif without:
                remarks.append(without)
            return None

        def record(holds: str) -> Callable[[str], Any]:
            return lambda path: RecordDataset(filepath=path, holds=f"vae_mnist.measures.{holds}").load()

        return RunFiles(
            measured=read("metrics.json", record("measured:Measurements"), "not evaluated") or [],
            processes=read("run_record.json", record("runs:Processes"), "no run_record.json") or [],
            of_images=read("image_bounds.safetensors", _bounds, "") or {},
            remarks=remarks,
        )

    def _newest(self, name: str) -> Checkpoint:
        """The newest checkpoint of a run.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        try:
            partitions = CheckpointsDataset(path=str(self._path / "06_models" / name)).load()
            return next(reversed(partitions.values()))()  # type: ignore[return-value]
        except DatasetError as error:  # Kedro has wrapped it
            if isinstance(error.__cause__, VaeMnistError):
                raise error.__cause__ from None
            raise CheckpointError(str(error)) from error

    def _exists(self) -> bool:
        return bool(self._names())

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix()}


def _bounds(path: str) -> dict[str, Tensor]:
    """The bounds of each image.

    Raises:
        DataError: other tensors.
    """
    found = TensorsDataset(filepath=path).load()
    wrong = found and found.keys() != {*BOUNDS, *(f"{name}_images" for name in BOUNDS)}
    for name in BOUNDS if found and not wrong else ():
        values, images = found[name], found[f"{name}_images"]
        shapes = values.ndim == 1 and len(values) > 0 and values.dtype == torch.float32
        wrong = wrong or not shapes or images.dtype != torch.uint8 or images.shape != (32,)
        wrong = wrong or not bool(values.isfinite().all())
    if wrong:
        raise DataError(f"{path}: expected the bounds of images. Run kedro run --pipelines=evaluate.")
    return found
