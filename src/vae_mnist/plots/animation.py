"""Pictures as the frames of an animation."""

from collections.abc import Iterable

from PIL import Image

GREYS = bytes(grey for grey in range(0, 256, 17) for _ in "RGB")


def animation(pictures: Iterable[Image.Image], frame_ms: int) -> list[Image.Image]:
    """Frames with a palette each; the last one stays five times as long.

    Grey pictures get 16 greys, a third of the bytes of 256; others the 256 colours that suit them best.

    Args:
        pictures: all of one size.
        frame_ms: milliseconds a frame.
    """
    frames = []
    for picture in pictures:
        if picture.mode == "L":
            frame = picture.point(lambda grey: round(grey / 17))
            frame.putpalette(GREYS)
        else:
            frame = picture.convert("RGB").quantize()
        frame.info["duration"] = frame_ms
        frames.append(frame)
    if frames:
        frames[-1].info["duration"] = 5 * frame_ms
    return frames
