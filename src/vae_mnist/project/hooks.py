"""The order of what happens around every run; the other modules of this package do it."""

import atexit
import threading
from typing import Any, cast

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from ..errors import RunInUseError
from .checks import check_model, check_parameters, check_run, machine_of
from .closing import closing_words
from .loading import ConfigLoader
from .places import of_all_runs
from .record import start_record
from .run import OpenRun, tidy


class ProjectHooks:
    """One object serves all sessions of a process; Kedro calls it from any thread."""

    def __init__(self) -> None:
        self._run: OpenRun | None = None
        self._entrance = threading.Lock()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Log as the configuration says, and refuse wrong parameters.

        Raises:
            ConfigError: naming each wrong key.
        """
        loader = cast("ConfigLoader", context.config_loader)
        loader.use_logging()
        check_parameters(loader)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse a run that cannot work or that another process is at; then begin its record, if it has one.

        Raises:
            ConfigError: device, precision or runner are not available here, or the images are too small for the model.
            DataError: an input is missing or damaged.
            RunInUseError: another process or thread works on a run.
            WriteError: the folders cannot be written to.
        """
        parameters = catalog.load("parameters")
        with self._entrance:
            other = self._run
            if other and other.thread is not threading.current_thread() and other.thread.is_alive():
                raise RunInUseError(
                    f"run {other.record.run!r} has been running in another thread of this process since "
                    f"{other.record.started}, and a process takes one run at a time. "
                    "Wait for it, or start this run in a process of its own."
                )
            self.end("stopped")  # in a notebook, an interrupted run ends without calling its hooks
            check_run(pipeline, catalog)
            check_model(pipeline, catalog, parameters)
            facts = machine_of(pipeline, parameters)
            if of_all_runs(pipeline):
                tidy(pipeline, catalog)
                return
            atexit.register(self.end, "stopped")
            self._run = OpenRun(start_record(run_params, parameters, facts), catalog)
        try:
            self._run.begin(pipeline)
        except Exception as error:
            self.on_pipeline_error(error)
            raise

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Record the images, and refuse others than this run began with."""
        if dataset_name == "data_card" and self._run:
            self._run.note_images(data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Record the images; stop after an epoch or a picture if asked to."""
        self.after_dataset_loaded(dataset_name, data)
        if self._run and self._run.stop:
            raise self._run.stop

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """End the record and say what was done."""
        self.end("finished")
        click.echo("\n" + closing_words(pipeline, catalog))

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the record with the reason."""
        self.end(f"failed: {' '.join(str(error).split())[:300] or type(error).__name__}")

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Have `stop` raised as soon as something is saved, in case it is lost where it is raised first.

        Python drops what a signal's handler raises within `__del__`, a weakref's callback or an `except: pass`.
        """
        if self._run:
            self._run.stop = stop

    def end(self, how: str) -> None:
        """Close the current run, if there is one.

        Args:
            how: "finished", "stopped by …" or "failed: …".
        """
        run, self._run = self._run, None
        atexit.unregister(self.end)
        if run:
            run.end(how)


hooks = ProjectHooks()
