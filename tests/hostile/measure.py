"""Read checkpoints one after the other, each in a process of its own; print outcome, seconds and memory as JSON.

python -m tests.hostile.measure FILE...
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.checkpoints import read_checkpoint

LIMIT_SECONDS = 60


def outcome(path):
    """What becomes of a file, and the error message; the type of any exception that is no CheckpointError."""
    try:
        read_checkpoint(path)
    except DamagedCheckpointError as error:
        return "damaged", str(error)
    except CheckpointError as error:
        return "refused", str(error)
    except Exception as error:
        return repr(error), ""
    return "read", ""


def in_child(path):
    """The outcome in a fork, its seconds, and MB more at the peak of memory, which begins with what is there now."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_SECONDS)
        before, started = _peak(), time.perf_counter()
        report = [*outcome(path), time.perf_counter() - started, _peak() - before]
        os.write(writer, json.dumps(report).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else ["killed", "", LIMIT_SECONDS, -1]


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not survive a fork
    outcome(__file__)  # what the first call imports is not the file's
    json.dump({Path(name).name: in_child(name) for name in sys.argv[1:]}, sys.stdout)
