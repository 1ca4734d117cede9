"""Images that an earlier ingest has made: they need not be made again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from kedro.io import AbstractDataset, DatasetError

from ..data.images import ImageSet, check_images, images_sha256
from ..errors import DataError
from ..storage.records import DataCard
from .records import RecordDataset
from .tensors import TensorsDataset

# Training, validation and test images and their card, if that is one that is wanted.
Earlier = Callable[[Callable[[DataCard], bool]], tuple[ImageSet, ImageSet, ImageSet, DataCard] | None]


class MadeImagesDataset(AbstractDataset[None, Earlier]):
    """The files of ingest, to be read before they are written.

    Args:
        folder: of data_card.json and the three files of images.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, folder: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(folder)
        self.metadata = metadata

    def load(self) -> Earlier:
        """A function that reads them: None if a file is missing or damaged, or the card is not wanted."""

        def earlier(wanted: Callable[[DataCard], bool]) -> tuple[ImageSet, ImageSet, ImageSet, DataCard] | None:
            try:
                card = RecordDataset(
                    filepath=str(self._folder / "data_card.json"), holds=f"{DataCard.__module__}:DataCard"
                )
                return self._read(card.load(), wanted)
            except (DataError, DatasetError):
                return None  # what is damaged is made and written again

        return earlier

    def _read(
        self, card: DataCard, wanted: Callable[[DataCard], bool]
    ) -> tuple[ImageSet, ImageSet, ImageSet, DataCard] | None:
        if not wanted(card):
            return None
        splits = []
        for split in ("train", "validation", "test"):
            image_set = cast(
                "ImageSet", TensorsDataset(filepath=str(self._folder / f"{split}_images.safetensors")).load()
            )
            check_images(image_set, f"{split}_images")
            if images_sha256(image_set) != card.sha256[split]:
                return None
            splits.append(image_set)
        train, validation, test = splits
        return train, validation, test, card

    def save(self, data: None) -> None:  # noqa: ARG002 Kedro's signature
        """Refused: each file is a dataset of its own.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(
            f"{self._folder}: to be saved as train_images, validation_images, test_images and data_card."
        )

    def _exists(self) -> bool:
        return True  # that there are none is an answer as well

    def _describe(self) -> dict[str, Any]:
        return {"folder": self._folder.as_posix()}
