"""Operations that change the file system: count them, and die before one of them."""

import os
import signal
import sys
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def count_operations(folder, counter, kill_at):
    """Count operations under a folder in the file `counter`; end with SIGKILL before the one with number `kill_at`."""
    file = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = 0

    def watch(event, args):
        nonlocal count
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if (
            (writes or event in CHANGES)
            and isinstance(args[0], str | os.PathLike)
            and folder in str(Path(args[0]).absolute())
        ):
            count += 1
            os.pwrite(file, str(count).encode(), 0)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
