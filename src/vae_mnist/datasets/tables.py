"""Tables and plain values."""

from typing import ClassVar

from kedro_datasets._typing import TablePreview
from kedro_datasets.json import JSONDataset as PlainJSON
from kedro_datasets.pandas import CSVDataset as PlainCSV
from kedro_datasets.text import TextDataset as PlainText

from .atomic import AtomicFile


class CSVDataset(AtomicFile, PlainCSV):  # type: ignore[misc]
    """A pandas table <-> a .csv file; the options are those of kedro-datasets' `pandas.CSVDataset`."""

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows, for Kedro-Viz, which warns of every error; nothing of a file that is not there yet."""
        if not self._exists():
            return TablePreview({})
        table = super().preview(nrows)
        # JSON has no NaN.
        table["data"] = [[None if value != value else value for value in row] for row in table["data"]]  # noqa: PLR0124
        return TablePreview(table)


class JSONDataset(AtomicFile, PlainJSON):  # type: ignore[misc]
    """Plain values <-> a .json file in UTF-8; the options are those of kedro-datasets' `json.JSONDataset`."""

    DEFAULT_SAVE_ARGS: ClassVar = {"indent": 2, "ensure_ascii": False}
    DEFAULT_FS_ARGS: ClassVar = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"encoding": "utf-8"},
    }


class TextDataset(AtomicFile, PlainText):  # type: ignore[misc]
    """A text <-> a file in UTF-8; the options are those of kedro-datasets' `text.TextDataset`."""

    DEFAULT_FS_ARGS: ClassVar = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"mode": "r", "encoding": "utf-8"},
    }
