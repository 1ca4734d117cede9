"""What runs have left, for comparing them."""

from collections.abc import Callable
from math import log, prod
from typing import Any, NamedTuple

from pydantic import BaseModel
from torch import Tensor

from ..storage.checkpoints import Checkpoint
from ..storage.fields import Split
from .measured import Measured

TRAINING = {"__default__", "train", "train_model"}  # pipelines, tags and nodes that train


class Process(BaseModel):
    """What a comparison reads of an entry of run_record.json, in which other versions may have written more."""

    class Data(BaseModel):
        """The images that it worked on."""

        title: str
        sha256: dict[Split, str]

    pipelines: list[str]
    selection: dict[str, Any] = {}
    cpu_seconds: float | None = None
    exit: str | None = None
    parameters: dict[str, Any]
    data: Data | None = None
    machine: dict[str, Any] = {}

    @property
    def trained(self) -> bool:
        """Whether it was to train."""
        chosen = {str(name) for names in self.selection.values() if isinstance(names, list) for name in names}
        return not TRAINING.isdisjoint(self.pipelines) and (not chosen or not TRAINING.isdisjoint(chosen))

    @property
    def started_over(self) -> bool:
        """Whether it trained from the beginning, whatever there was."""
        train = self.parameters.get("train")
        return self.trained and isinstance(train, dict) and train.get("resume") is False


Processes = list[Process]


class RunFiles(NamedTuple):
    """The files of one run; what is missing or damaged is empty, and one of the remarks."""

    measured: list[Measured]
    processes: list[Process]  # oldest first
    of_images: dict[str, Tensor]  # of `measure_bounds`
    remarks: list[str]


class StoredRun(NamedTuple):
    """A run that is read when it is asked for."""

    files: Callable[[], RunFiles]
    newest: Callable[[], Checkpoint]  # the newest checkpoint; raises CheckpointError


class Run(NamedTuple):
    """What is compared of a run."""

    name: str
    settings: dict[str, Any]  # "model.network": "mlp", …; empty where they are not known
    data: str  # title of the data set
    sha256: tuple[str, ...]  # of its splits: runs on others are not compared with it
    image_shape: tuple[int, ...]  # empty where it is not known
    epochs: int | None  # after which it was measured
    parameters: int | None  # weights
    cpu_seconds: float | None  # of the processes that trained
    measured: list[Measured]
    of_images: dict[str, Tensor]
    remarks: list[str]

    def values_of(self, measure: Measured) -> tuple[Tensor, tuple[int, ...]] | None:
        """A bound for each image, (N,) float64, and the sha256 of the images.

        None if they are not kept, or are those of another evaluation: their mean differs.
        """
        in_bits = measure.unit == "bits per dimension"
        name = str(measure.settings.get("of", measure.name))
        if name not in self.of_images:
            return None
        values = self.of_images[name].double() / (prod(self.image_shape) * log(2) if in_bits else 1)
        # The values are kept in single precision.
        if abs(values.mean().item() - measure.value) > 1e-5 * max(1, abs(measure.value)):
            return None
        return values, tuple(self.of_images[f"{name}_images"].tolist())


def cpu_seconds(processes: list[Process]) -> float | None:
    """Those of the training that the newest checkpoint comes from; None if no process has left any."""
    starts = [number for number, process in enumerate(processes) if process.started_over]
    training = [process for process in processes[starts[-1] if starts else 0 :] if process.trained]
    known = [process.cpu_seconds for process in training if process.cpu_seconds is not None]
    return round(sum(known), 2) if known else None
