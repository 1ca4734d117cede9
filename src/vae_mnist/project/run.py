"""The current run of this process: its lock and its record."""

import logging
import threading
from contextlib import ExitStack
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from ..errors import DataError
from ..storage.atomic import remove_leftovers
from .lock import hold, now
from .places import SHARED, folder, location, shown
from .record import Data, RunRecord

if TYPE_CHECKING:
    from ..storage.records import DataCard  # imports torch

logger = logging.getLogger(__name__)

# Another run may be writing a temporary file of the images; one that is older than this has no writer.
MIN_AGE_SECONDS = 3600.0


class OpenRun:
    """Everything that lasts as long as a run; `begin` takes it, `end` gives it back.

    Args:
        record: what is known of the run as it starts.
        catalog: of this run.
    """

    def __init__(self, record: RunRecord, catalog: DataCatalog) -> None:
        self.thread = threading.current_thread()
        self.stop: KeyboardInterrupt | None = None  # raised as soon as something is saved
        self.record = record
        self._cpu = process_time()
        self._catalog = catalog
        self._records: list[RunRecord] = []  # of earlier runs and of this one, once it has begun
        self._held = ExitStack()

    def begin(self, pipeline: Pipeline) -> None:
        """Lock the run, remove temporary files left by killed runs, and write the beginning of its record.

        Raises:
            DataError: the data card or the record's file is damaged.
            RunInUseError: another process works on this run.
            WriteError: the folders cannot be written to.
        """
        models, shared = location(self._catalog, "checkpoints"), {folder(self._catalog, name) for name in SHARED}
        self._held.enter_context(hold(models))
        for place in {models, *(folder(self._catalog, name) for name in [*pipeline.all_outputs(), "run_record"])}:
            _tidy(place, MIN_AGE_SECONDS if place in shared else 0)
        earlier = self._catalog.load("run_record") if self._catalog.exists("run_record") else []
        self._records = [*earlier, self.record]
        self._save()
        if not SHARED.isdisjoint(pipeline.inputs()) and self._catalog.exists("data_card"):
            self.note_images(self._catalog.load("data_card"))

    def note_images(self, card: "DataCard") -> None:
        """Record which images are used.

        Raises:
            DataError: they are not those of before.
        """
        data, before = Data(title=card.title, sha256=dict(card.sha256)), self.record.data
        if before not in (None, data):
            raise DataError(
                f"data_card: expected the images that this run began with ({before.title}), found others "
                f"({data.title}): another run has replaced them. Run the same command again, or give this run a "
                "folder of its own with --params=data_root=…"
            )
        if before is None:
            self.record.data = data
            self._save()

    def end(self, how: str) -> None:
        """End the record and release the lock.

        Args:
            how: "finished", "stopped by …" or "failed: …".
        """
        with self._held:
            if self._records:
                self.record.ended, self.record.exit = now(), how
                self.record.cpu_seconds = round(process_time() - self._cpu, 2)
                try:
                    self._save()
                except DatasetError as error:
                    # A full disk has ended the run already; this must not hide why.
                    logger.warning("the run's record could not be ended: %s", error)

    def _save(self) -> None:
        self._catalog.save("run_record", self._records)


def tidy(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Remove temporary files left by killed processes, where others may be at work: only those that are old.

    Raises:
        WriteError: one cannot be removed.
    """
    for place in {folder(catalog, name) for name in pipeline.all_outputs()}:
        _tidy(place, MIN_AGE_SECONDS)


def _tidy(place: Path | None, min_age: float) -> None:
    for left in remove_leftovers(place, min_age):
        logger.info("removed %s, left by a run that was killed", shown(left))
