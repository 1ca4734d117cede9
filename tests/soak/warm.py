"""`kedro run` in children of a process that has imported everything: each starts in no time and can be killed exactly.

Reads one JSON object a line, {"words": [...], "kill_at": n, "kill_after": seconds}; runs `kedro run` with these words
in a forked child. The child kills itself with SIGKILL just before its n-th operation that changes the file system under
data/, or is killed after so many seconds; either may be null. Answers with the child's status, the number of operations
that it came to, and its seconds. Start it in the project's folder.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch  # noqa: F401 imported for the children
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.startup import bootstrap_project

import vae_mnist.datasets.animation
import vae_mnist.datasets.pictures
import vae_mnist.datasets.tables
import vae_mnist.pipelines.evaluate.nodes
import vae_mnist.pipelines.report.nodes
import vae_mnist.pipelines.train.nodes  # noqa: F401

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def child(words, kill_at, counter):
    data = str(Path("data").resolve())
    count = 0

    def watch(event, args):
        nonlocal count
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if (
            (writes or event in CHANGES)
            and isinstance(args[0], str | os.PathLike)
            and data in str(Path(args[0]).absolute())
        ):
            count += 1
            os.pwrite(counter, count.to_bytes(8, "little"), 0)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.addaudithook(watch)
    try:
        KedroCLI(Path.cwd()).main(args=["run", *words])
    except SystemExit as end:
        os._exit(end.code or 0)
    except BaseException:
        os._exit(99)
    os._exit(0)


def main():
    bootstrap_project(Path.cwd())
    counter = os.memfd_create("counter")
    for line in sys.stdin:
        task = json.loads(line)
        os.pwrite(counter, bytes(8), 0)
        if (pid := os.fork()) == 0:
            child(task["words"], task["kill_at"], counter)
        began = time.monotonic()
        killer = threading.Timer(task["kill_after"] or 600, os.kill, (pid, signal.SIGKILL))
        killer.start()
        # Waited for, but not yet reaped: its number is its own until the timer is off.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        killer.cancel()
        killer.join()
        seconds = time.monotonic() - began
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        operations = int.from_bytes(os.pread(counter, 8, 0), "little")
        print(json.dumps([status, operations, seconds]), flush=True)


if __name__ == "__main__":
    main()
