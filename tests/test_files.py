import os
import stat

import pytest

from vae_mnist.files import atomic_write


def test_the_file_appears_whole_and_folders_are_made(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half-way")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_finished_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "b.txt") as temporary:
            temporary.write_text("x")
        assert os.umask(0o027) == 0o027, "the mask was changed"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "b.txt").stat().st_mode) == 0o640
