import os
import stat
import sys
import time

import pytest

from vae_mnist.errors import WriteError
from vae_mnist.storage.atomic import atomic_write, remove_leftovers


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path, error):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(error, match="half-way"), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error("half-way")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_the_data_reach_the_disk_before_the_name_and_the_old_file_never_goes_first(tmp_path):
    (tmp_path / "b.txt").write_text("old")
    calls = []

    def watch(frame, event, function):
        if event == "c_call" and function in (os.fsync, os.replace, os.rename, os.unlink, os.remove):
            calls.append(function.__name__)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        with atomic_write(tmp_path / "b.txt") as temporary:
            temporary.write_text("new")
    finally:
        sys.setprofile(before)
    assert calls == ["fsync", "replace", "fsync"], "the file, its name, the folder"
    assert (tmp_path / "b.txt").read_text() == "new"


def test_an_error_that_is_not_the_disks_is_left_as_it_is(tmp_path):
    """Pillow, asked for a format that cannot hold a picture, says so with an OSError."""
    from PIL import Image

    with pytest.raises(OSError, match="cannot write mode F as PNG") as caught, atomic_write(tmp_path / "x") as path:
        Image.new("F", (1, 1)).save(path, format="png")
    assert not isinstance(caught.value, WriteError)
    assert list(tmp_path.iterdir()) == []


def test_finished_files_follow_the_umask_which_is_never_changed(tmp_path, monkeypatch):
    """Not even for a moment: another thread may be making a file."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            with atomic_write(tmp_path / "b.txt") as temporary:
                temporary.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "b.txt").stat().st_mode) == 0o640


def test_only_the_temporary_files_of_writers_are_removed(tmp_path):
    (tmp_path / "kept").mkdir()
    mine = ["a.csv", ".lock", ".x.tmp", ".a.csv.ABCD1234.tmp", ".a.csv.abcd1234.tmp.kept", "a.csv.abcd1234.tmp"]
    left = [tmp_path / name for name in ["kept/.b.csv.abcd1234.tmp", *mine]]
    for path in [tmp_path / ".a.csv.az_01289.tmp", *left]:
        path.write_text("")
    assert remove_leftovers(tmp_path) == [tmp_path / ".a.csv.az_01289.tmp"]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(left)
    assert remove_leftovers(tmp_path / "none") == remove_leftovers(None) == []


def test_young_temporary_files_are_left_to_their_writers(tmp_path):
    young, old = (tmp_path / f".{name}.csv.abcd1234.tmp" for name in ("young", "old"))
    young.write_text("")
    old.write_text("")
    os.utime(old, (time.time() - 3600,) * 2)
    assert remove_leftovers(tmp_path, min_age=1800) == [old]
    assert young.exists()


def test_what_a_killed_writer_leaves_is_known_as_such(tmp_path):
    """The name that the writer gives and the name that is looked for are one."""
    with pytest.raises(WriteError), atomic_write(tmp_path / "a.csv") as temporary:
        assert remove_leftovers(tmp_path) == [temporary]
    assert list(tmp_path.iterdir()) == []
