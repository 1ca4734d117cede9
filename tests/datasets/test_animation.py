from PIL import Image

from vae_mnist.datasets.animation import AnimationDataset


def test_an_animation_shows_every_frame_for_its_time_and_loops(tmp_path):
    frames = []
    for grey, duration in ((0, 100), (120, 200), (250, 1000)):
        frame = Image.new("L", (8, 8), grey).quantize(4)
        frame.info["duration"] = duration
        frames.append(frame)
    dataset = AnimationDataset(filepath=str(tmp_path / "a.gif"))
    assert not dataset.exists()
    assert "a.gif" in str(dataset)
    dataset.save(frames)
    assert dataset.load().startswith(b"GIF89a")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        durations = []
        for index in range(3):
            gif.seek(index)
            durations.append(gif.info["duration"])
    assert durations == [100, 200, 1000]
