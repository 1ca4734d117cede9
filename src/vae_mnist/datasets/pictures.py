"""Figures and single pictures."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kedro_datasets._typing import ImagePreview
from kedro_datasets.pillow import ImageDataset as PlainImage
from kedro_datasets.plotly import JSONDataset as PlainPlotly
from PIL import Image

from .atomic import AtomicFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PlotlyDataset(AtomicFile, PlainPlotly):  # type: ignore[misc]
    """A Plotly figure <-> a .json file; the options are those of kedro-datasets' `plotly.JSONDataset`."""


class ImageDataset(AtomicFile, PlainImage):  # type: ignore[misc]
    """A PIL image <-> a picture; the options are those of kedro-datasets' `pillow.ImageDataset`.

    A power cut may leave an empty file: a run can write 100,000 pictures, and the same command makes them again.
    """

    durable = False

    def preview(self) -> ImagePreview:
        """The file, for Kedro-Viz, which warns of every error; nothing of a file that is not there yet."""
        path = Path(self._filepath)
        return ImagePreview(b64encode(path.read_bytes()).decode() if path.is_file() else "")

    @staticmethod
    def _get_format(file_path: PurePosixPath) -> str:
        # .NAME.png.xxxxxxxx.tmp while it is being written
        path = file_path.with_suffix("").with_suffix("") if file_path.suffix == ".tmp" else file_path
        return str(PlainImage._get_format(path))  # noqa: SLF001 the base class


class FigureDataset(ImageDataset):
    """A Matplotlib figure -> a picture, which is a PIL image when it is loaded.

    kedro-datasets' own imports Matplotlib at the start of every run.
    """

    def save(self, data: "Figure") -> None:
        """Draw the figure."""
        with BytesIO() as drawn:
            data.savefig(drawn, format="png")
            super().save(Image.open(drawn))
