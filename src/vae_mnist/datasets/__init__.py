"""Kedro datasets of our own; each wraps a reader or writer that also works without Kedro."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .animation import AnimationDataset
    from .checkpoints import CheckpointsDataset
    from .mnist import MnistDataset
    from .pictures import FigureDataset, ImageDataset, PlotlyDataset
    from .tables import CSVDataset, JSONDataset
    from .tensors import PathsDataset, TensorsDataset

# Name -> module. Imported on first use: reading digits shall not wait for Matplotlib.
_HOMES = {
    "AnimationDataset": "animation",
    "CSVDataset": "tables",
    "CheckpointsDataset": "checkpoints",
    "FigureDataset": "pictures",
    "ImageDataset": "pictures",
    "JSONDataset": "tables",
    "MnistDataset": "mnist",
    "PathsDataset": "tensors",
    "PlotlyDataset": "pictures",
    "TensorsDataset": "tensors",
}

__all__ = [
    "AnimationDataset",
    "CSVDataset",
    "CheckpointsDataset",
    "FigureDataset",
    "ImageDataset",
    "JSONDataset",
    "MnistDataset",
    "PathsDataset",
    "PlotlyDataset",
    "TensorsDataset",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
