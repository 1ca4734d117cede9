"""Tables and plain values."""

from kedro_datasets.json import JSONDataset as PlainJSON
from kedro_datasets.pandas import CSVDataset as PlainCSV

from .atomic import AtomicFile


class CSVDataset(AtomicFile, PlainCSV):  # type: ignore[misc]
    """A pandas table <-> a .csv file; the options are those of kedro-datasets' `pandas.CSVDataset`."""


class JSONDataset(AtomicFile, PlainJSON):  # type: ignore[misc]
    """Plain values <-> a .json file; the options are those of kedro-datasets' `json.JSONDataset`."""
