"""All sources of images, one function each."""

from functools import partial
from pathlib import Path
from typing import Any, get_args

from kedro.io import AbstractDataset, DatasetError

from ..config.parameters import IngestConfig
from ..data.images import RawImages, Readers
from .folder import read_folder
from .mnist import read, remove_leftovers, shown
from .npz import read_npz
from .parts import OwnImages
from .published import PublishedName, published
from .sample import read_sample
from .sprites import FACTORS, SHAPES, make_sprites


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
            "sprites": _make_sprites,
            "folder": _read_pictures,
            "npz": _read_arrays,
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


def _read_pictures(config: IngestConfig) -> RawImages:
    from joblib import cpu_count

    asked = config.folder
    folder = Path(asked.path or "")
    read = read_folder(
        folder,
        size=config.image_size,
        channels=config.channels,
        test_share=asked.test_share,
        seed=asked.seed,
        damaged=asked.damaged,
        workers=cpu_count(),
    )
    return _own(read, folder, f"pictures under {shown(folder)} (test_share {asked.test_share:g}, seed {asked.seed})")


def _read_arrays(config: IngestConfig) -> RawImages:
    path = Path(config.npz.path or "")
    return _own(read_npz(path), path, f"arrays of {shown(path)}")


def _own(read: OwnImages, path: Path, source: str) -> RawImages:
    name = path.resolve().stem
    files = {file: facts | {"known": None} for file, facts in read.files.items()}
    return RawImages(name if name.isprintable() else repr(name), source, files, read.train, read.test, read.classes)


def _make_sprites(config: IngestConfig) -> RawImages:
    train, test = make_sprites(config.image_size, config.channels)
    factors = dict(list(FACTORS.items())[: train["factors"].shape[1]])
    return RawImages("sprites", "rendered by vae_mnist", {}, train, test, SHAPES, factors)
