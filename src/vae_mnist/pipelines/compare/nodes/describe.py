"""What is compared of each run, read from its files."""

from typing import Any

import torch
from pydantic import ValidationError

from ....config.model import ModelConfig
from ....config.objective import ObjectiveConfig
from ....config.parameters import CompareConfig, TrainConfig
from ....errors import CheckpointError, ConfigError
from ....measures.runs import Process, Run, StoredRun, cpu_seconds
from ....models import build_model
from ....storage.checkpoints import Checkpoint
from ....storage.fields import Split
from ....training.machine import Precision
from ....training.resume import run_settings

Runs = dict[str, StoredRun]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def describe_runs(runs: Runs, config: CompareConfig) -> list[Run]:
    """Settings and data from the newest checkpoint of each run, else from its record; measures from its metrics.

    Args:
        runs: by name.
        config: which of them.

    Raises:
        ConfigError: there is no run of a name that is asked for.
    """
    return [_describe(name, run) for name, run in chosen(runs, config).items()]


def chosen(runs: Runs, config: CompareConfig) -> Runs:
    """The runs that are asked for, in that order.

    Raises:
        ConfigError: there is no run of that name.
    """
    if missing := [name for name in config.runs or () if name not in runs]:
        raise ConfigError(f"compare.runs: expected some of {', '.join(runs)}, got {', '.join(missing)}.")
    return {name: runs[name] for name in config.runs or runs}


def _describe(name: str, run: StoredRun) -> Run:
    files = run.files()
    remarks, checkpoint, parameters = [*files.remarks], None, None
    try:
        checkpoint = run.newest()
        parameters = _parameters(checkpoint)
    except CheckpointError:  # draw_run_samples says why
        remarks.append("no readable checkpoint")
    # One that failed may have been asked for settings that the run does not have.
    trained = [each for each in files.processes if each.trained and not (each.exit or "").startswith("failed")]
    last = trained[-1] if trained else None
    if checkpoint:
        settings, data, sha256 = checkpoint.settings, checkpoint.dataset.title, checkpoint.dataset.sha256
    else:
        settings = _settings(last) if last else {}
        data, sha256 = (last.data.title, last.data.sha256) if last and last.data else ("unknown data", {})
    epochs = {epoch for each in files.measured if isinstance(epoch := each.settings.get("epoch"), int)}
    if checkpoint and epochs and epochs != {checkpoint.epoch}:
        remarks.append(f"trained to epoch {checkpoint.epoch}, not evaluated since")
    return Run(
        name=name,
        settings=settings,
        data=data,
        sha256=tuple(sha256.get(split, "") for split in SPLITS),
        image_shape=tuple(checkpoint.image_shape) if checkpoint else (),
        epochs=max(epochs) if epochs else checkpoint.epoch if checkpoint else None,
        parameters=parameters,
        cpu_seconds=cpu_seconds(files.processes),
        measured=files.measured,
        of_images=files.of_images,
        remarks=remarks,
    )


def _parameters(checkpoint: Checkpoint) -> int:
    """The number of weights of a checkpoint's model.

    Raises:
        CheckpointError: it describes no model.
    """
    try:
        with torch.device("meta"):  # no memory, and no generator moves
            model = build_model(ModelConfig(**checkpoint.model), checkpoint.image_shape, checkpoint.dataset.classes)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.model} describes no model: {error}") from error
    return sum(parameter.numel() for parameter in model.parameters())


def _settings(process: Process) -> dict[str, Any]:
    """Those of a checkpoint that this process has written; none if another version has."""
    given = process.parameters
    try:
        groups = ModelConfig(**given["model"]), ObjectiveConfig(**given["objective"]), TrainConfig(**given["train"])
    except (KeyError, TypeError, ValidationError):
        return {}
    return run_settings(*groups, Precision(str(process.machine.get("precision")), torch.float32))
