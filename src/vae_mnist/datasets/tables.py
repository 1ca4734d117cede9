"""Tables and plain values."""

from typing import ClassVar

from kedro_datasets.json import JSONDataset as PlainJSON
from kedro_datasets.pandas import CSVDataset as PlainCSV

from .atomic import AtomicFile


class CSVDataset(AtomicFile, PlainCSV):  # type: ignore[misc]
    """A pandas table <-> a .csv file; the options are those of kedro-datasets' `pandas.CSVDataset`."""


class JSONDataset(AtomicFile, PlainJSON):  # type: ignore[misc]
    """Plain values <-> a .json file in UTF-8; the options are those of kedro-datasets' `json.JSONDataset`."""

    DEFAULT_SAVE_ARGS: ClassVar = {"indent": 2, "ensure_ascii": False}
    DEFAULT_FS_ARGS: ClassVar = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"encoding": "utf-8"},
    }
