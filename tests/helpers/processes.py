"""A `kedro run` that goes on while a test interferes."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

from .forkserver import start
from .project import as_params, without_coverage

MANY = {"train__epochs": 400, "train__batch_size": 100}


@contextmanager
def running(project, *words, env=None, cold=False, **overrides):
    """A `kedro run` in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "kedro", "run", *words, as_params(**overrides)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tests that a shell has put into the background ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = start(command, cold=cold, cwd=project.root, env=env or without_coverage(), **pipes)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
