"""Checks before the first node."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.io.data_catalog import SharedMemoryDataCatalog
from kedro.pipeline import Pipeline

from ..config.check import parameter_problems
from ..config.model import ModelConfig
from ..config.objective import ObjectiveConfig
from ..config.parameters import GenerateConfig, IngestConfig, TrainConfig
from ..errors import ConfigError, DataError
from .places import OF_ALL_RUNS, SHARED, location, of_all_runs, shown


def check_parameters(loader: OmegaConfigLoader) -> None:
    """Refuse wrong parameters; Kedro itself would pass over an unknown top-level key.

    Raises:
        ConfigError: naming each wrong key.
    """
    # context.params would already be classes, or Kedro's own error, which names no top-level key.
    if problems := parameter_problems(loader["parameters"], loader["globals"], loader.runtime_params):
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"wrong parameters, nothing was run:{lines}")


def check_run(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse a run that cannot work.

    Args:
        pipeline: the nodes to be run.
        catalog: of this run.

    Raises:
        ConfigError: the launcher or the runner cannot run these nodes.
        DataError: naming the missing input and the pipeline that makes it.
    """
    from ..training.team import launched

    if launched() and "checkpoints" not in pipeline.all_outputs():
        raise ConfigError(
            "torchrun starts processes that train together, and none of the chosen nodes trains. "
            "Use kedro run, or torchrun with --pipelines=train."
        )
    if launched() and (objective := _objective(catalog)).whole_batch:
        raise ConfigError(
            f"objective.name: expected elbo, iwae or dreg with torchrun, got {objective.name}. Its loss compares all "
            "images of a batch, and each process has a part of them only. Use kedro run, or objective.name=elbo."
        )
    if not of_all_runs(pipeline) and any(OF_ALL_RUNS in node.tags for node in pipeline.nodes):
        raise ConfigError(
            "compare reads what runs have left, this one as well, and could come before it has left anything: run "
            "kedro run --pipelines=compare by itself."
        )
    parallel = isinstance(catalog, SharedMemoryDataCatalog)
    streaming = [node.name for node in pipeline.nodes if inspect.isgeneratorfunction(node.func)]
    if streaming and (parallel or _asynchronous()):
        raise ConfigError(
            f"{' and '.join(streaming)} saves each epoch while it trains, which ParallelRunner and --async do not "
            "support: leave them out, or use them for other pipelines only."
        )
    for name in sorted(pipeline.all_outputs() - pipeline.outputs()) if parallel else ():
        if name in catalog and isinstance(catalog.get(name), MemoryDataset):
            raise ConfigError(
                f"{name} is passed on in memory, which the processes of ParallelRunner do not share: leave "
                "ParallelRunner out, or use it for other pipelines only."
            )
    for name in sorted(pipeline.inputs()):
        if not name.startswith("params:") and name in catalog and not catalog.exists(name):
            raise DataError(_missing(name, catalog))


def check_model(pipeline: Pipeline, catalog: DataCatalog, parameters: Mapping[str, Any]) -> None:
    """Refuse a model that cannot be built for the images that the run trains on, or not generate what it is asked for.

    Raises:
        ConfigError: the images are too small for the network, or images of a class are asked of an unconditional model.
        DataError: the data card is damaged.
    """
    if "params:model" not in pipeline.inputs():
        return
    import torch

    from ..models import build_model

    model = ModelConfig.model_validate(parameters["model"])
    label = GenerateConfig.model_validate(parameters["generate"]).label
    if "params:generate" in pipeline.inputs() and label is not None and not model.conditional:
        raise ConfigError(
            f"generate.label: expected null with model.conditional=false, got {label}. A model that is not given "
            "labels does not know classes. Nearest: generate.label=null; or model.conditional=true."
        )
    ingest = IngestConfig.model_validate(parameters["ingest"])
    shape: Sequence[int] = (ingest.channels, ingest.image_size, ingest.image_size)
    if "data_card" in pipeline.inputs():
        shape = catalog.load("data_card").image_shape
    with torch.device("meta"):  # no weights, and no generator moves
        build_model(model, shape)


def machine_of(pipeline: Pipeline, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The device, precision and threads that a run gets; nothing if it does not train.

    Raises:
        ConfigError: the device or precision is not available on this machine, or steps are not compiled for it.
    """
    if "params:train" not in pipeline.inputs():
        return {}
    from ..training.compiled import check_compiled
    from ..training.machine import machine_facts, resolve_machine

    config = TrainConfig.model_validate(parameters["train"])
    machine = resolve_machine(config)
    if "checkpoints" in pipeline.all_outputs():
        check_compiled(config, machine)
    return machine_facts(machine)


def _objective(catalog: DataCatalog) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate(catalog.load("parameters")["objective"])


def _asynchronous() -> bool:
    context = click.get_current_context(silent=True)
    options = context.params if context else {}
    return bool(options.get("is_async") or (options.get("runner_params") or {}).get("is_async"))


def _missing(name: str, catalog: DataCatalog) -> str:
    dataset = catalog.get(name)
    if missing := getattr(dataset, "missing", None):  # a dataset may know better what to say
        return str(missing())
    if isinstance(dataset, MemoryDataset):
        return f"{name} is passed on in memory only: begin with an earlier node, the one that makes it."
    pipeline = "ingest" if name in SHARED else "evaluate" if name == "test_codes" else None
    maker = f"kedro run --pipelines={pipeline}" if pipeline else "kedro run"
    return f"no {name} at {shown(location(catalog, name))}: run {maker} first"
