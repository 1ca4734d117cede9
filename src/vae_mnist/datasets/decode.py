"""Decode pictures to pixels of one size, in several processes. Nothing here imports torch: they start fast."""

import hashlib
import multiprocessing
import os
import warnings
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder of Pillow is ever reached
MAX_PIXELS = 2**26  # of one picture, which takes up to 0.8 GB while it is decoded
MAX_FILE_BYTES = 2**28
CHUNK = 8  # pictures that a process is given at a time


class Decoded(NamedTuple):
    """A picture, or why it cannot be used."""

    pixels: bytes  # (size, size, channels); empty if there is a problem
    sha256: str  # of the file
    size: int  # bytes of the file
    problem: str = ""


def decode_all(paths: list[str], *, size: int, channels: int, workers: int) -> Generator[Decoded, None, None]:
    """Decode each picture, see `decode`; the order is that of the paths.

    Args:
        paths: of regular files.
        size: side of the squares in pixels.
        channels: 1 (grey) or 3 (RGB).
        workers: processes; with 1 this process decodes.

    Raises:
        DataError: a process died.
    """
    task = partial(decode, size=size, channels=channels)
    workers = min(workers, -(-len(paths) // CHUNK))
    if workers <= 1:
        yield from map(task, paths)
        return
    # joblib's processes start sooner, but after Ctrl-C they can wait for each other for ever.
    others = multiprocessing.active_children()
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)
    try:
        yield from executor.map(task, paths, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise DataError(
            f"expected {workers} processes to decode {len(paths):,} pictures, found that one of them ended: for want "
            'of memory, or because the script that was started has no if __name__ == "__main__". Use fewer workers; a '
            "single one decodes in this process."
        ) from error
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()  # what it was given may take it many seconds
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """End this process when the one that started it has gone, however it was killed."""
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def decode(path: str, *, size: int, channels: int) -> Decoded:
    """Read a PNG, JPEG or WebP picture: its first frame, upright, on black, the square at its centre, resized.

    Files that are damaged, of another format or too large have a `problem`; nothing that large is decoded.
    """
    content, digest = b"", ""
    try:
        if (found := Path(path).stat().st_size) > MAX_FILE_BYTES:
            return Decoded(b"", "", found, f"{found:,} bytes, more than {MAX_FILE_BYTES:,}")
        content = Path(path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with warnings.catch_warnings(action="ignore"):  # on metadata
            return Decoded(_pixels(content, size, channels), digest, len(content))
    except MemoryError:  # says nothing about the picture
        raise
    except UnidentifiedImageError:
        problem = "not a picture in PNG, JPEG or WebP"
    except Exception as error:  # malformed bytes can fail in any way
        problem = str(error) or type(error).__name__
    return Decoded(b"", digest, len(content), problem)


def _pixels(content: bytes, size: int, channels: int) -> bytes:
    read = partial(Image.open, formats=FORMATS)
    with read(BytesIO(content)) as image:
        if image.format == "PNG":
            image.verify()  # checksums, which decoding does not look at; the image cannot be used after it
    with read(BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        image.draft(None, (4 * size, 4 * size))  # decodes a large JPEG at half, a quarter or an eighth of its size
        ImageOps.exif_transpose(image, in_place=True)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = _without_alpha(image.crop((left, top, left + side, top + side)))
    # Pillow's BILINEAR averages over all pixels that become one, with weights that are never negative: no overshoot at
    # edges, as BICUBIC and LANCZOS have, and no blocks in small pictures that are enlarged, as with BOX.
    resized = square.convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.BILINEAR)
    return resized.tobytes()


def _without_alpha(image: Image.Image) -> Image.Image:
    """Composite on black; 16 bits of grey become the upper 8, as Pillow does in colour."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return Image.fromarray(np.where(values == image.info.get("transparency"), 0, values >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    black, colours = Image.new("RGB", image.size), image.convert("RGBA")
    black.paste(colours, mask=colours)
    return black
