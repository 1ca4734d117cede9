"""Folders of real pictures, right and wrong ones."""

import logging
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from vae_mnist.datasets import folder as module
from vae_mnist.datasets.decode import MAX_FILE_BYTES, decode
from vae_mnist.datasets.folder import read_folder
from vae_mnist.errors import DataError

OPTIONS = {"size": 4, "channels": 1, "test_share": 0.25, "seed": 0, "damaged": "refuse", "workers": 1}


def grey(value):
    return Image.new("L", (4, 4), value)


def lay_out(root, **folders):
    """One picture for each number, which is its grey value, in each folder."""
    for name, values in folders.items():
        inside = root.joinpath(*name.split("__"))
        inside.mkdir(parents=True, exist_ok=True)
        for value in values:
            grey(value).save(inside / f"{value}.png")
    return root


def read(root, **options):
    return read_folder(root, **OPTIONS | options)


def values(part):
    """The grey value of each image."""
    return part["images"][:, 0, 0, 0].tolist()


def refused(root, **options):
    with pytest.raises(DataError) as caught:
        read(root, **options)
    assert str(caught.value).startswith(f"{root}: expected ")
    assert "found" in str(caught.value)
    return str(caught.value)


def decoded(path, size=4, channels=1):
    """The pixels of a picture (size, size, channels)."""
    result = decode(os.fspath(path), size=size, channels=channels)
    assert result.problem == ""
    return np.frombuffer(result.pixels, np.uint8).reshape(size, size, channels)


def written(path, image, **options):
    image.save(path, **options)
    return path


# One picture

RED = (255, 0, 0)
PALETTE = Image.new("P", (4, 4), 1)
PALETTE.putpalette([0, 0, 0, 10, 20, 30])


@pytest.mark.parametrize(
    ("image", "options", "colour"),
    [
        (Image.new("1", (4, 4), 1), {}, (255, 255, 255)),
        (Image.new("L", (4, 4), 77), {}, (77, 77, 77)),
        (Image.new("L", (4, 4), 77), {"transparency": 77}, (0, 0, 0)),
        (Image.new("LA", (4, 4), (200, 128)), {}, (100, 100, 100)),  # 200 * 128 / 255 = 100.4
        (PALETTE, {}, (10, 20, 30)),
        (PALETTE, {"transparency": bytes([255, 51])}, (2, 4, 6)),
        (Image.new("RGB", (4, 4), (1, 2, 3)), {}, (1, 2, 3)),
        (Image.new("RGB", (4, 4), (1, 2, 3)), {"transparency": (1, 2, 3)}, (0, 0, 0)),
        (Image.new("RGBA", (4, 4), (250, 100, 50, 51)), {}, (50, 20, 10)),
        (Image.new("I;16", (4, 4), 0x1234), {}, (0x12, 0x12, 0x12)),
        (Image.new("I;16", (4, 4), 0x1234), {"transparency": 0x1234}, (0, 0, 0)),
        (Image.new("I;16", (4, 4), 0xFFFF), {}, (255, 255, 255)),
    ],
)
def test_pictures_of_all_modes_are_read_on_black(tmp_path, image, options, colour):
    path = written(tmp_path / "a.png", image, **options)
    assert (decoded(path, channels=3) == colour).all()
    luma = round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
    assert (decoded(path) == luma).all()


def test_jpeg_in_cmyk_is_read(tmp_path):
    path = written(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=100)
    assert np.abs(decoded(path, channels=3).astype(int) - RED).max() <= 3


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True})])
def test_pictures_of_the_right_size_are_not_changed(tmp_path, suffix, options):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3), np.uint8)
    path = written(tmp_path / f"a.{suffix}", Image.fromarray(pixels), **options)
    assert np.array_equal(decoded(path, size=7, channels=3), pixels)


@pytest.mark.parametrize(("shape", "rows", "columns"), [((4, 9), [0, 4], [2, 6]), ((8, 4), [2, 6], [0, 4])])
def test_the_square_at_the_centre_is_kept(tmp_path, shape, rows, columns):
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    path = written(tmp_path / "a.png", Image.fromarray(pixels))
    assert np.array_equal(decoded(path)[:, :, 0], pixels[slice(*rows), slice(*columns)])


def test_the_camera_s_orientation_is_obeyed(tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is at the right
    path = written(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    assert np.array_equal(decoded(path)[:, :, 0], np.rot90(pixels, -1))


def test_smaller_pictures_are_averages(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    path = written(tmp_path / "a.png", Image.fromarray(pixels))
    # A triangle of 3 pixels to each side of the centre of each new pixel.
    weights = np.maximum(0, 1 - np.abs(np.arange(12) + 0.5 - (3 * np.arange(4) + 1.5)[:, None]) / 3)
    weights /= weights.sum(1, keepdims=True)
    assert np.abs(decoded(path)[:, :, 0] - weights @ pixels @ weights.T).max() <= 1


@pytest.mark.parametrize("size", [9, 30, 64, 200])
def test_edges_do_not_overshoot(tmp_path, size):
    pixels = np.where(np.arange(64) < 32, 50, 200).astype(np.uint8)[None].repeat(64, 0)
    found = decoded(written(tmp_path / "a.png", Image.fromarray(pixels)), size=size)
    assert (found.min(), found.max()) == (50, 200)


def test_large_jpegs_look_as_if_decoded_in_full(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)).resize((1600, 1200))
    path = written(tmp_path / "a.jpg", image, quality=95)
    full = image.crop((200, 0, 1400, 1200)).resize((150, 150), Image.Resampling.BILINEAR)
    assert np.abs(decoded(path, size=150, channels=3).astype(int) - np.asarray(full)).mean() < 1


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True})])
def test_the_first_frame_of_an_animation_is_read(tmp_path, suffix, options):
    frames = [grey(value).convert("RGB") for value in (10, 20, 30)]
    path = written(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert (decoded(path) == 10).all()


# Layouts


def test_folders_are_classes(tmp_path):
    lay_out(tmp_path, dogs=range(10, 18), cats=range(20, 28))
    images = read(tmp_path)
    assert images.classes == ("cats", "dogs")
    for part, count in ((images.train, 12), (images.test, 4)):
        assert part["images"].shape == (count, 1, 4, 4)
        assert (part["images"].dtype, part["labels"].dtype) == (torch.uint8, torch.int64)
        assert part["labels"].tolist() == [int(value < 20) for value in values(part)]
    assert sorted(values(images.train) + values(images.test)) == [*range(10, 18), *range(20, 28)]


def test_pictures_without_folders_have_no_classes(tmp_path):
    for value in range(8):
        grey(value).save(tmp_path / f"{value}.png")
    images = read(tmp_path)
    assert images.classes == ()
    assert images.train["labels"].tolist() == [0] * 6
    assert sorted(values(images.train) + values(images.test)) == [*range(8)]


def test_train_and_test_are_kept_apart(tmp_path):
    images = read(lay_out(tmp_path / "plain", train=[1, 2, 3], test=[4, 5]))
    assert images.classes == ()
    assert (sorted(values(images.train)), sorted(values(images.test))) == ([1, 2, 3], [4, 5])
    images = read(lay_out(tmp_path / "classes", train__b=[1, 2], train__a=[3], test__b=[4]))
    assert images.classes == ("a", "b")
    assert sorted(zip(values(images.train), images.train["labels"].tolist(), strict=True)) == [(1, 1), (2, 1), (3, 0)]
    assert images.test["labels"].tolist() == [1]


def test_one_of_train_and_test_among_others_is_a_class(tmp_path):
    assert read(lay_out(tmp_path, train=[1, 2], bus=[3, 4])).classes == ("bus", "train")


def test_pictures_in_colour_have_three_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    for name in ("a.png", "b.PNG"):
        Image.fromarray(pixels).save(tmp_path / name)
    images = read(tmp_path, channels=3).train["images"]
    assert torch.equal(images, torch.from_numpy(pixels).permute(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, "found none of these in '.'"),
        ({"a__b": [1]}, "found folders in the class 'a': 'a/b'"),
        ({"train__a__b": [1], "test__a__b": [1]}, "found folders in the class 'train/a': 'train/a/b'"),
        ({"a": [1, 2], "b": []}, "expected pictures in each folder, found none in 'b'"),
        ({"train": [1]}, "train and test, .* found 'train'"),
        ({"train": [1], "test": [1], "val": [1]}, "train and test, .* found 'test', 'train', 'val'"),
        ({"train": [1], "test": []}, "found none of these in 'test'"),
        ({"train": [1], "test__a": [1]}, "folders for classes that train has too, found 'a'"),
        ({"train__a": [1], "test__a": [1], "test__b": [1]}, "folders for classes that train has too, found 'b'"),
        ({"train__a": [1], "test": [1]}, "folders for classes that train has too, found pictures without a folder"),
        ({"a": [1], "b": [2]}, "one picture for training and one for testing, found 2 and 0"),
        ({"a": [1, 2], "\x1b[31m": [1]}, r"without control characters in UTF-8, found '\\x1b\[31m'"),
        ({"a": [1, 2], os.fsdecode(b"\xff"): [1]}, r"without control characters in UTF-8, found '\\udcff'"),
    ],
)
def test_other_layouts_are_refused_with_what_was_expected(tmp_path, folders, message):
    with pytest.raises(DataError, match=message):
        read(lay_out(tmp_path, **folders))


def test_pictures_next_to_classes_are_refused(tmp_path):
    lay_out(tmp_path, a=[1, 2])
    grey(3).save(tmp_path / "3.png")
    assert r"pictures ('3.png') as well as folders ('a') in '.'" in refused(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "a folder that can be read, found" in refused(tmp_path / "nowhere")


def test_hidden_files_and_other_kinds_are_ignored_with_one_line(tmp_path, caplog):
    lay_out(tmp_path, a=[1, 2])
    for name in (".DS_Store", "notes.txt", "a/.hidden.png", "a/picture.bmp", "a/more.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    with caplog.at_level(logging.INFO, module.__name__):
        assert len(read(tmp_path).train["labels"]) == 1
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "ignored files that are hidden or no PNG, JPEG or WebP ('hidden': 3, '.txt': 2, '.bmp': 1)"
    ]


# Split and order


def test_the_seed_alone_draws_the_test_pictures(tmp_path):
    first = lay_out(tmp_path / "first", a=range(40))
    second = lay_out(tmp_path / "second", a=reversed(range(40)))
    assert values(read(first).test) == values(read(second).test)
    assert values(read(first).train) == values(read(second).train)
    assert set(values(read(first, seed=1).test)) != set(values(read(first).test))


def test_another_class_does_not_change_the_split_of_those_there_are(tmp_path):
    before = set(values(read(lay_out(tmp_path, b=range(40))).test))
    after = read(lay_out(tmp_path, a=range(50, 61), c=range(70, 83)))
    assert {value for value in values(after.test) if value < 50} == before


def test_each_class_has_its_share_of_test_pictures(tmp_path):
    lay_out(tmp_path, a=range(40), b=range(50, 58), c=range(60, 62), d=[70])
    assert read(tmp_path).test["labels"].bincount(minlength=4).tolist() == [10, 2, 1, 0]
    assert read(tmp_path, test_share=0.99).train["labels"].bincount(minlength=4).tolist() == [1, 1, 1, 1]


def test_classes_are_mixed_in_both_parts(tmp_path):
    lay_out(tmp_path / "one", a=range(80), b=range(100, 180))
    lay_out(
        tmp_path / "two", train__a=range(60), train__b=range(100, 160), test__a=range(60, 80), test__b=range(160, 180)
    )
    for root in (tmp_path / "one", tmp_path / "two"):
        images = read(root)
        assert 15 < images.train["labels"][-60:].sum() < 45
        assert 3 < images.test["labels"][-20:].sum() < 17


def test_the_checksum_is_that_of_sha256sum(tmp_path):
    lay_out(tmp_path, a=range(5), b=range(10, 15))
    command = r"find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    expected = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True).stdout.split()[0]
    size = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert read(tmp_path).files == {"10 pictures": {"bytes": size, "sha256": expected.decode()}}


# Hostile files


def test_links_are_followed_within_the_folder(tmp_path):
    lay_out(tmp_path / "set", a=range(4))
    (tmp_path / "set" / "b").symlink_to("a")
    (tmp_path / "set" / "a" / "4.png").symlink_to("3.png")
    (tmp_path / "link").symlink_to("set")
    images = read(tmp_path / "link")
    assert sorted(values(images.train) + values(images.test)) == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("name", ["a/link.png", "b"])
def test_links_out_of_the_folder_are_refused(tmp_path, name):
    lay_out(tmp_path, set__a=[1, 2], other=[3])
    (tmp_path / "set" / name).symlink_to(tmp_path / "other" / ("3.png" if name == "a/link.png" else ""))
    assert f"{name!r} leads out of it" in refused(tmp_path / "set")


@pytest.mark.parametrize("target", ["nowhere.png", "x.png"])
def test_links_that_lead_nowhere_are_refused(tmp_path, target):
    lay_out(tmp_path, a=[1, 2])
    (tmp_path / "a" / "x.png").symlink_to(target)
    assert "'a/x.png' leads out of it or nowhere" in refused(tmp_path)


def test_a_fifo_is_refused_unopened(tmp_path):
    lay_out(tmp_path, a=[1, 2])
    os.mkfifo(tmp_path / "a" / "x.png")
    assert "regular files, found that 'a/x.png' is none" in refused(tmp_path)


def test_damaged_files_are_listed_and_refused(tmp_path):
    lay_out(tmp_path, a=range(10, 30))
    for value in range(10, 22):
        path = tmp_path / "a" / f"{value}.png"
        path.write_bytes(path.read_bytes()[:-20] if value > 10 else b"")
    message = refused(tmp_path)
    assert "found 12 of 20 that cannot be used: 'a/10.png' (not a picture in PNG, JPEG or WebP), 'a/11.png'" in message
    assert "'a/19.png'" in message
    assert "'a/20.png'" not in message
    assert "and 2 more" in message


def test_damaged_files_are_skipped_with_a_warning_as_asked(tmp_path, caplog):
    lay_out(tmp_path, a=range(20), b=range(20, 40))
    whole = read(tmp_path)
    gone = [values(whole.train)[3], values(whole.test)[2]]
    for value in gone:
        (tmp_path / "ab"[value >= 20] / f"{value}.png").write_bytes(b"<html>")
    images = read(tmp_path, damaged="skip")
    for part, before in ((images.train, whole.train), (images.test, whole.test)):
        assert values(part) == [value for value in values(before) if value not in gone]
        assert part["labels"].tolist() == [int(value >= 20) for value in values(part)]
    assert "skipped damaged pictures: found 2 of 40" in caplog.text
    assert [*images.files] == ["38 pictures"]


def test_a_part_of_which_all_are_damaged_is_refused(tmp_path):
    lay_out(tmp_path, train=[1, 2], test=[3])
    (tmp_path / "test" / "3.png").write_bytes(b"x")
    assert "found 2 and 0" in refused(tmp_path, damaged="skip")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_a_picture_cut_at_any_byte_is_damaged(tmp_path, format_):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    path = written(tmp_path / "a.png", Image.fromarray(pixels), format=format_)
    content = path.read_bytes()
    for length in range(len(content) - 4):  # the checksum of nothing ends a PNG
        path.write_bytes(content[:length])
        assert decode(os.fspath(path), size=4, channels=3).problem, length


def test_a_png_with_a_changed_byte_is_damaged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    path = written(tmp_path / "a.png", Image.fromarray(pixels))
    content = path.read_bytes()
    for at in range(len(content) - 12):  # the last chunk is empty
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert decode(os.fspath(path), size=4, channels=1).problem, at


@pytest.mark.parametrize("format_", ["GIF", "BMP", "TIFF", "EPS", "PPM", "ICO", "JPEG2000"])
def test_no_other_decoder_is_reached(tmp_path, format_):
    path = written(tmp_path / "a.png", Image.new("RGB", (16, 16)), format=format_)
    assert decode(os.fspath(path), size=4, channels=1).problem == "not a picture in PNG, JPEG or WebP"


def png(width, height, rows):
    """A grey PNG of one bit a pixel that says it is this large."""
    chunks = (b"IHDR" + struct.pack(">LLBBBBB", width, height, 1, 0, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND")
    packed = (struct.pack(">L", len(each) - 4) + each + struct.pack(">L", zlib.crc32(each)) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [(2**13, 2**13 + 1, "8192 x 8193 pixels, more than 67,108,864"), (2**30, 2**30, "limit")],
)
def test_bombs_are_damaged_pictures(tmp_path, width, height, message):
    (tmp_path / "a.png").write_bytes(png(width, height, bytes((2**10 + 1) * (2**13 + 1))))
    started = time.monotonic()
    assert message in decode(os.fspath(tmp_path / "a.png"), size=4, channels=1).problem
    assert time.monotonic() - started < 1


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = written(tmp_path / "a.png", grey(1))
    with path.open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    started = time.monotonic()
    found = decode(os.fspath(path), size=4, channels=1)
    assert (found.problem, found.size) == ("268,435,457 bytes, more than 268,435,456", MAX_FILE_BYTES + 1)
    assert time.monotonic() - started < 0.2


def test_more_than_memory_holds_is_refused_before_anything_is_decoded(tmp_path):
    lay_out(tmp_path, a=[1, 2])
    (tmp_path / "a" / "1.png").write_bytes(b"damaged")
    message = "at most 4,294,967,296 bytes, found 2 pictures, which take 5,000,000,000"
    assert message in refused(tmp_path, size=50_000)


def test_too_many_classes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_CLASSES", 2)
    assert "at most 2 classes, found 3" in refused(lay_out(tmp_path, a=[1, 2], b=[1], c=[1]))


# Processes

SCRIPT = """
import sys
from pathlib import Path
from vae_mnist.datasets.folder import read_folder

if __name__ == "__main__":
    read_folder(Path(sys.argv[1]), size=4, channels=1, test_share=0.5, seed=0, damaged="refuse", workers=2)
"""


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path):
    lay_out(tmp_path, a=range(40), b=range(50, 70))
    (tmp_path / "a" / "7.png").write_bytes(b"damaged")
    one, two = (read(tmp_path, workers=workers, damaged="skip") for workers in (1, 2))
    assert two.files == one.files
    for part in ("train", "test"):
        assert torch.equal(getattr(two, part)["images"], getattr(one, part)["images"])
        assert torch.equal(getattr(two, part)["labels"], getattr(one, part)["labels"])


def ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@contextmanager
def decoding(tmp_path):
    """A program and two others that decode for it; none outlives the block."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "set").mkdir()
    Image.new("L", (8000, 8000)).save(tmp_path / "set" / "0.png")
    for copy in range(1, 400):
        (tmp_path / "set" / f"{copy}.png").hardlink_to(tmp_path / "set" / "0.png")
    command = [sys.executable, tmp_path / "script.py", tmp_path / "set"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        main, busy = psutil.Process(process.pid), []
        try:
            while len(busy) < 2:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
                busy = [child for child in main.children() if child.cpu_times().user > 4]  # after their start
            yield process, busy
            deadline = time.monotonic() + 20
            while not all(map(ended, [main, *busy])):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            for each in filter(psutil.Process.is_running, [*busy, main]):
                each.kill()


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_at_once(tmp_path):
    with decoding(tmp_path) as (process, _):
        started = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=60)[1].endswith("\nKeyboardInterrupt\n")
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_processes_end_with_one_that_is_killed(tmp_path):
    with decoding(tmp_path) as (process, _):
        process.kill()


@pytest.mark.slow
def test_the_death_of_a_process_is_an_error(tmp_path):
    with decoding(tmp_path) as (process, busy):
        busy[0].kill()
        said = process.communicate(timeout=60)[1]
        assert "DataError: expected 2 processes to decode 400 pictures, found that one of them ended" in said
