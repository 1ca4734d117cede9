import subprocess
import sys
import threading

import pytest

from vae_mnist.errors import WriteError
from vae_mnist.storage.locks import acquire_lock

HOLD = """
import sys
from pathlib import Path
from vae_mnist.storage.locks import acquire_lock
lock = acquire_lock(Path(sys.argv[1]), 0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "a" / "lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, path], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        assert acquire_lock(path, 0) is None
        holder.kill()
    lock = acquire_lock(path, 0)
    assert lock is not None
    assert acquire_lock(path, 0) is None, "held against this process as well"
    lock.release()


def test_a_lock_may_be_released_by_another_thread(tmp_path):
    lock = acquire_lock(tmp_path / "lock", 0)
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    again = acquire_lock(tmp_path / "lock", 0)
    assert again is not None
    again.release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/lock: cannot be locked: .* --params=data_root="):
        acquire_lock(tmp_path / "file" / "lock", 0)
