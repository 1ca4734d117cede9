"""Kedro datasets of our own; each wraps a reader or writer that also works without Kedro."""

from .animation import AnimationDataset
from .checkpoints import CheckpointsDataset
from .mnist import MnistDataset
from .tensors import TensorsDataset

__all__ = ["AnimationDataset", "CheckpointsDataset", "MnistDataset", "TensorsDataset"]
