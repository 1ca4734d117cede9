import os
import socket

import pytest

from vae_mnist.errors import RunInUseError
from vae_mnist.project.lock import LOCK, OWNER, hold


def test_a_run_is_held_against_the_same_process_too_and_given_back(tmp_path):
    here = f"run 'r' is being worked on by process {os.getpid()} on host {socket.gethostname()} since "
    with hold(tmp_path / "r"), pytest.raises(RunInUseError, match=here):
        hold(tmp_path / "r").__enter__()
    with hold(tmp_path / "r"):
        pass
    assert [path.name for path in (tmp_path / "r").iterdir()] == [LOCK]


@pytest.mark.parametrize("owner", [None, "{", "[1]", '{"pid": "x"}'])
def test_a_lock_that_is_not_signed_yet_is_respected(tmp_path, owner):
    with hold(tmp_path / "r"):
        (tmp_path / "r" / OWNER).unlink()
        if owner is not None:
            (tmp_path / "r" / OWNER).write_text(owner)
        with pytest.raises(RunInUseError, match="another process that has only just begun"):
            hold(tmp_path / "r").__enter__()


def test_a_run_that_cannot_sign_its_lock_gives_it_back(project):
    owner = project.path("06_models", "default", OWNER)
    owner.mkdir(parents=True)
    first = project.invoke("--pipelines=ingest")  # kept, with the exception in it, as a notebook keeps it
    assert f"{OWNER}: cannot be written: " in first.output
    owner.rmdir()
    assert project.invoke("--pipelines=ingest").exit_code == 0
