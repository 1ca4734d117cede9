"""JSON files that hold what a class describes."""

from importlib import import_module
from types import GenericAlias
from typing import Any

from kedro_datasets._typing import JSONPreview
from pydantic import TypeAdapter, ValidationError

from ..errors import DataError
from ..storage.records import first_problem
from .tables import JSONDataset


class RecordDataset(JSONDataset):
    """One object of a pydantic class, or a list of them <-> a .json file.

    Args:
        filepath: of the file.
        holds: the class, as module:name, such as vae_mnist.storage.records:DataCard.
        many: whether the file holds a list of them.
        metadata: for Kedro-Viz.
    """

    def __init__(
        self, *, filepath: str, holds: str, many: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            filepath=filepath,
            save_args={"indent": 2, "ensure_ascii": False},
            fs_args={"open_args_save": {"encoding": "utf-8"}, "open_args_load": {"encoding": "utf-8"}},
            metadata=metadata,
        )
        module, _, name = holds.partition(":")
        held = getattr(import_module(module), name)
        kind: Any = GenericAlias(list, held) if many else held
        self._adapter = TypeAdapter(kind)

    def load(self) -> Any:  # noqa: ANN401 as `holds` says
        """Read the file.

        Raises:
            DataError: it is missing or damaged, or holds something else.
        """
        content = super().load()
        try:
            return self._adapter.validate_python(content)
        except ValidationError as error:
            raise DataError(
                f"{self._filepath}: {first_problem(error)} Delete it and run the pipeline that makes it again."
            ) from error

    def save(self, data: Any) -> None:  # noqa: ANN401 as `holds` says
        """Write the file, whole or not at all.

        Raises:
            WriteError: the disk is full, read-only, forbidden or gone.
        """
        super().save(self._adapter.dump_python(data, mode="json"))

    def preview(self) -> JSONPreview:
        """The file's text, for Kedro-Viz."""
        return JSONPreview(self._adapter.dump_json(self.load(), indent=2).decode())
