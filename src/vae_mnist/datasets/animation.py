"""An animated GIF."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from PIL.Image import Image

from ..storage.atomic import atomic_write


class AnimationDataset(AbstractDataset[list[Image], bytes]):
    """A list of PIL images -> one GIF that plays for ever; loading gives the file's bytes.

    Args:
        filepath: of the file.
        metadata: for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> bytes:
        """The file's bytes, for `IPython.display.Image`."""
        return self._filepath.read_bytes()

    def save(self, data: list[Image]) -> None:
        """Write the frames, at least one; each shows for its own `info["duration"]` in milliseconds."""
        with atomic_write(self._filepath) as temporary:
            data[0].save(temporary, format="GIF", save_all=True, append_images=data[1:], loop=0, optimize=True)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
