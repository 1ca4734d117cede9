"""Around a run: checks before the first node, one process at a time, a record, and a few plain lines at the end."""

import atexit
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from ..config.check import parameter_problems
from ..config.parameters import TrainConfig
from ..errors import ConfigError, DataError, RunInUseError
from ..storage.atomic import remove_leftovers
from .runs import RunLock, digits_users, lock_digits, now, start_record

logger = logging.getLogger(__name__)

DIGITS = frozenset({"train_digits", "validation_digits", "test_digits"})
SHARED = DIGITS | {"data_card"}  # what all runs read; the rest belongs to one run


class ProjectHooks:
    """What every run does, whichever pipeline it runs."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._held = ExitStack()  # the locks of the run that goes on
        self._digits_lock = ExitStack()
        self._digits_are_ready = False  # nobody changes them any more while this run goes on
        self._lock: RunLock | None = None
        self._catalog: DataCatalog | None = None
        self._records: list[dict[str, Any]] = []  # of this run and those before it; empty while none goes on
        self._stop: KeyboardInterrupt | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse wrong parameters; Kedro itself would pass over an unknown top-level key.

        Raises:
            ConfigError: naming each wrong key.
        """
        loader = cast("OmegaConfigLoader", context.config_loader)
        # context.params would already be classes, or Kedro's own error, which names no top-level key.
        self._parameters = dict(loader["parameters"])
        if problems := parameter_problems(self._parameters, loader["globals"], loader.runtime_params):
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ConfigError(f"wrong parameters, nothing was run:{lines}")

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse a run that cannot work or that another process is at; then begin its record.

        Raises:
            ConfigError: the device or precision cannot be had here.
            DataError: naming the missing input and the pipeline that makes it.
            RunInUseError: naming the process that works on this run.
            WriteError: the folders cannot be written to.
        """
        self.end("stopped")  # in a notebook, an interrupted run ends without a word to its hooks
        try:
            self._begin(run_params["pipeline_names"] or ["__default__"], pipeline, catalog)
        except Exception as error:
            self.on_pipeline_error(error)
            raise

    def _begin(self, pipelines: list[str], pipeline: Pipeline, catalog: DataCatalog) -> None:
        from ..training.team import launched

        if launched() and "checkpoints" not in pipeline.all_outputs():
            raise ConfigError(
                f"torchrun starts processes that train together; {' and '.join(pipelines)} trains nothing. "
                "Use kedro run, or torchrun with --pipeline=train."
            )
        facts: dict[str, Any] = {}
        if "params:train" in pipeline.inputs():
            from ..training.machine import machine_facts

            facts = machine_facts(TrainConfig.model_validate(self._parameters["train"]))
        for name in sorted(pipeline.inputs()):
            if not name.startswith("params:") and name in catalog and not catalog.exists(name):
                raise DataError(_missing(name, catalog))
        atexit.register(self.end, "stopped")
        self._held, self._digits_lock, self._digits_are_ready = ExitStack(), ExitStack(), False
        self._held.callback(self._digits_lock.close)
        self._catalog = catalog
        lock = RunLock(_location(catalog, "checkpoints"))
        self._held.callback(lock.release)
        lock.acquire()
        self._lock = lock
        if not SHARED.isdisjoint(pipeline.datasets()):
            digits_lock = lock_digits(_location(catalog, "data_card").parent)
            self._digits_lock.callback(digits_lock.release)
        folders = {_folder(catalog, name) for name in [*pipeline.all_outputs(), "run_record"]} | {lock.folder}
        for folder in folders:
            for rest in remove_leftovers(folder):
                logger.info("removed %s, the rest of a run that was killed", _shown(rest))
        old = catalog.load("run_record") if catalog.exists("run_record") else []
        self._records = [*old, start_record(self._parameters["run"], pipelines, self._parameters, facts)]
        self._save_records()

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Refuse to exchange digits that another run uses.

        Raises:
            RunInUseError: naming that run.
        """
        catalog = self._catalog
        if dataset_name not in DIGITS or catalog is None or not _replaces(catalog, dataset_name, data):
            return
        mine = self._lock.folder if self._lock else None
        if users := list(digits_users(_location(catalog, "checkpoints").parent, but=mine)):
            raise RunInUseError(
                f"{_shown(_location(catalog, dataset_name))}: expected the digits that {' and '.join(users)} "
                "is using, got others. Wait for it, or give this run a place of its own with --params=data_root=…"
            )

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Before the first use of the digits, let other runs make or read them; they stay as they are from here on."""
        self._stop_if_asked()
        if not SHARED.isdisjoint(node.inputs) and SHARED.isdisjoint(node.outputs):
            self._use_digits()

    @hook_impl
    def after_dataset_saved(self) -> None:
        """Stop after an epoch or a picture if asked to."""
        self._stop_if_asked()

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Have `stop` raised as soon as something is saved, in case it is lost where it is raised first.

        Python drops what a signal's handler raises within `__del__`, a weakref's callback or an `except: pass`.
        """
        self._stop = stop

    def _stop_if_asked(self) -> None:
        if self._stop is not None:
            raise self._stop

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run's record with the reason."""
        self.end(f"failed: {' '.join(str(error).split())[:300] or type(error).__name__}")

    def end(self, how: str) -> None:
        """Close the run that goes on, if there is one: its record first, then its locks.

        Args:
            how: "finished", "stopped by …" or "failed: …".
        """
        with self._held:
            if self._records:
                self._records[-1] |= {"ended": now(), "exit": how}
                try:
                    self._save_records()
                except DatasetError as error:
                    # A full disk has ended the run already; this must not hide why.
                    logger.warning("the run's record could not be ended: %s", error)
        self._records, self._lock, self._catalog, self._stop = [], None, None, None
        atexit.unregister(self.end)

    def _use_digits(self) -> None:
        from ..data.images import check_data_card

        catalog = self._catalog
        if self._lock is None or catalog is None or self._digits_are_ready:
            return
        self._digits_are_ready = True
        if catalog.exists("data_card"):
            self._lock.use_digits()
            card = check_data_card(catalog.load("data_card"))
            self._records[-1]["data"] = {"title": card["title"], "sha256": card["sha256"]}
            self._save_records()
        self._digits_lock.close()

    def _save_records(self) -> None:
        if self._catalog is not None:
            self._catalog.save("run_record", self._records)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """End the record; say what was done, where it lies, and what to type next."""
        if not SHARED.isdisjoint(pipeline.all_outputs()):
            self._use_digits()  # no node did
        self.end("finished")
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


def _replaces(catalog: DataCatalog, name: str, data: Any) -> bool:  # noqa: ANN401
    """Whether other digits lie where these are to be written."""
    from ..data.images import digits_sha256

    try:
        old = catalog.load(name) if catalog.exists(name) else None
    except DatasetError:  # a damaged file is of no use to anybody
        return False
    return old is not None and digits_sha256(old) != digits_sha256(data)


def _folder(catalog: DataCatalog, name: str) -> Path | None:
    """Where a dataset's files lie, if it has any."""
    dataset = catalog.get(name)
    if filepath := getattr(dataset, "_filepath", None):
        return Path(str(filepath)).parent
    path = getattr(dataset, "_path", None)
    return Path(str(path)) if path else None


def _location(catalog: DataCatalog, name: str) -> Path:
    dataset = catalog.get(name)
    return Path(str(getattr(dataset, "_filepath", None) or getattr(dataset, "_path", "")))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
