import numpy as np
import pytest

from vae_mnist.plots import animation, sample_grid


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_are_the_pictures_in_few_colours_and_the_last_one_stays(noise, caption, channels):
    pages = [sample_grid(ink * noise(4, channels, 2, 2), 2, caption) for ink in (0.2, 0.5, 1.0)]
    frames = animation(pages, 100)
    assert [frame.info["duration"] for frame in frames] == [100, 100, 500]
    for frame, page in zip(frames, pages, strict=True):
        assert np.abs(np.asarray(frame.convert(page.mode), dtype=int) - np.asarray(page)).max() <= 8
        assert len(frame.getcolors()) <= (16 if channels == 1 else 256)


def test_no_pictures_make_no_frames():
    assert animation([], 100) == []
