"""Figures as the frames of an animation."""

from collections.abc import Iterable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

GREYS = bytes(grey for grey in range(0, 256, 17) for _ in "RGB")


def animation(figures: Iterable[Figure], frame_ms: int) -> list[Image.Image]:
    """Draw figures as frames in 16 greys, a third of the bytes of 256; the last one stays five times as long.

    Args:
        figures: drawn one after another.
        frame_ms: milliseconds a frame.
    """
    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        frame = Image.frombuffer("RGBA", (width, height), bytes(canvas.buffer_rgba()))
        frame = frame.convert("L").point(lambda grey: round(grey / 17))
        frame.putpalette(GREYS)
        frame.info["duration"] = frame_ms
        frames.append(frame)
    if frames:
        frames[-1].info["duration"] = 5 * frame_ms
    return frames
