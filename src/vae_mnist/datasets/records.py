"""JSON files of pydantic types."""

from pkgutil import resolve_name
from typing import Any

from kedro_datasets._typing import JSONPreview
from pydantic import TypeAdapter, ValidationError

from ..errors import DataError
from ..storage.records import first_problem
from .tables import JSONDataset


class RecordDataset(JSONDataset):
    """A value of a type that pydantic knows <-> a .json file.

    Args:
        filepath: of the file.
        holds: the type, as module:name, such as vae_mnist.storage.records:DataCard.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, holds: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._adapter = TypeAdapter(resolve_name(holds))

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
