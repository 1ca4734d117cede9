"""Around a run: parameters and inputs are checked before the first node, and a few plain lines end it."""

from pathlib import Path
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from .config import TrainConfig, parameter_problems
from .errors import ConfigError, DataError


class ProjectHooks:
    """What every run does, whichever pipeline it runs."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse wrong parameters; Kedro itself would pass over an unknown top-level key.

        Raises:
            ConfigError: naming each wrong key.
        """
        # context.params would already be classes, or Kedro's own error, which names no top-level key.
        self._parameters = dict(context.config_loader["parameters"])
        if problems := parameter_problems(self._parameters):
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ConfigError(f"wrong parameters, nothing was run:{lines}")

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse a run that cannot work: an impossible device, or an input that no pipeline has made yet.

        Raises:
            ConfigError: the device or precision cannot be had here.
            DataError: naming the missing input and the pipeline that makes it.
        """
        if "params:train" in pipeline.inputs():
            from .devices import resolve_device, resolve_precision

            config = TrainConfig.model_validate(self._parameters["train"])
            resolve_precision(config.precision, resolve_device(config.device))
        for name in sorted(pipeline.inputs()):
            if not name.startswith("params:") and name in catalog and not catalog.exists(name):
                raise DataError(_missing(name, catalog))

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Say what was done, where it lies, and what to type next."""
        lines = [f"run        {self._parameters['run']}"]
        if catalog.exists("data_card"):
            card = catalog.load("data_card")
            lines.append(f"data       {card['title']} ({card['source']})")
        if "history" in pipeline.all_outputs() and catalog.exists("history"):
            history = catalog.load("history")
            last = history.iloc[-1]
            lines.append(f"epochs     {len(history)}")
            weight = "" if last["beta"] == 1 else f"{last['beta']:g} x "
            lines += [
                f"{split:<5} loss {last[f'{split}_loss']:.2f} nats per image = bce {last[f'{split}_bce']:.2f} "
                f"+ {weight}kld {last[f'{split}_kld']:.2f}"
                for split in ("train", "test")
            ]
        lines += _next_steps(pipeline, catalog)
        click.echo("\n" + "\n".join(lines))


def _next_steps(pipeline: Pipeline, catalog: DataCatalog) -> list[str]:
    outputs = pipeline.all_outputs()
    if "generated_grid" in outputs:
        return [f"pictures   {_shown(_location(catalog, 'generated_grid').parent)}"]
    if "newest_samples" in outputs:
        return [
            f"pictures   {_shown(_location(catalog, 'newest_samples').parent)}",
            "next       kedro viz run, or kedro run --pipeline=generate",
        ]
    if "checkpoints" in outputs:
        return [
            f"models     {_shown(_location(catalog, 'checkpoints'))}",
            "next       kedro run --pipelines=evaluate,report",
        ]
    if "data_card" in outputs:
        return ["next       kedro run --pipeline=train"]
    return []


def _missing(name: str, catalog: DataCatalog) -> str:
    dataset = catalog.get(name)
    if missing := getattr(dataset, "missing", None):  # a dataset may know better what to say
        return str(missing())
    if isinstance(dataset, MemoryDataset):
        return f"{name} is handed on in memory only: begin with an earlier node, the one that makes it"
    maker = "kedro run --pipeline=ingest" if name.endswith(("_digits", "data_card")) else "kedro run"
    return f"no {name} at {_shown(_location(catalog, name))}: run {maker} first"


def _location(catalog: DataCatalog, name: str) -> Path:
    dataset = catalog.get(name)
    return Path(str(getattr(dataset, "_filepath", None) or getattr(dataset, "_path", "")))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
