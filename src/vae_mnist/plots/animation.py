"""Pictures as the frames of an animation."""

from collections.abc import Iterable

from PIL import Image

GREYS = bytes(grey for grey in range(0, 256, 17) for _ in "RGB")


def animation(pictures: Iterable[Image.Image], frame_ms: int) -> list[Image.Image]:
    """Frames in 16 greys, a third of the bytes of 256; the last one stays five times as long.

    Args:
        pictures: all of one size.
        frame_ms: milliseconds a frame.
    """
    frames = []
    for picture in pictures:
        frame = picture.convert("L").point(lambda grey: round(grey / 17))
        frame.putpalette(GREYS)
        frame.info["duration"] = frame_ms
        frames.append(frame)
    if frames:
        frames[-1].info["duration"] = 5 * frame_ms
    return frames
