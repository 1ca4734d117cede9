"""All sources of images, one function each."""

from functools import partial
from pathlib import Path
from typing import Any, get_args

from kedro.io import AbstractDataset, DatasetError

from ..config.parameters import IngestConfig
from ..data.images import RawImages, Readers
from .mnist import read, remove_leftovers
from .published import PublishedName, published
from .sample import read_sample


class SourcesDataset(AbstractDataset[None, Readers]):
    """Images from files, mirrors or packages; those of published sets lie under `path` as torchvision lays them out.

    Args:
        path: the folder, `root` of `torchvision.datasets.MNIST`: <path>/MNIST/raw/train-images-idx3-ubyte[.gz], ….
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Readers:
        """Functions that read images, by the name of their source; what a killed download left is removed."""
        remove_leftovers(self._path)
        return {
            **{name: partial(self._read_published, name) for name in get_args(PublishedName)},
            "sample": lambda _: read_sample(),
        }

    def _read_published(self, name: PublishedName, config: IngestConfig) -> RawImages:
        return read(self._path, published(name, config.emnist.split))

    def save(self, data: None) -> None:  # noqa: ARG002 Kedro's signature
        """Refused: raw data are read-only.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self._path}: the raw files are read-only.")

    def _exists(self) -> bool:
        return True  # the sample always serves

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix()}
