"""Read checkpoints one after the other, each in a process of its own; print outcome, seconds and memory as JSON.

python -m tests.hostile.measure files FILE...                 each file as it is
python -m tests.hostile.measure mutations FILE FOLDER COUNT   seeded mutations of a checkpoint, plain and sealed again
"""

import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.archives import DIGITS, LABEL, seal
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


def mutate(content, seed):
    """Some bytes replaced, removed or added, often where the pickle or the zip directory lie."""
    draw, size = random.Random(seed), len(content)
    start = draw.choice([draw.randrange(size), draw.randrange(5000), size - 1 - draw.randrange(4000)])
    removed, added = draw.choice([(1, 1), (1, 1), (16, 16), (500, 500), (1, 0), (size, 0), (0, 1), (0, 5000)])
    return content[:start] + draw.randbytes(added) + content[start + removed :]


def mutations(source, folder, count):
    """How often each outcome came."""
    counts = {"plain": Counter(), "sealed again": Counter()}
    sealed = source.read_bytes()
    bare = sealed[: -len(LABEL) - DIGITS - 2] + b"\0\0"  # without comment
    path = folder / "mutated.pt"
    for seed in range(count):
        changed = mutate(sealed, seed)
        if changed != sealed:
            path.write_bytes(changed)
            counts["plain"][outcome(path)[0]] += 1
        archive = io.BytesIO(mutate(bare, seed))
        if archive.getbuffer().nbytes > 2:
            seal(archive)
            path.write_bytes(archive.getvalue())
            counts["sealed again"][outcome(path)[0]] += 1
    return counts, ""


def in_child(work):
    """Run work() in a fork, whose peak of memory begins with what is there now."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_SECONDS)
        before, started = _peak(), time.perf_counter()
        report = [*work(), time.perf_counter() - started, _peak() - before]
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
    mode, *arguments = sys.argv[1:]
    if mode == "files":
        report = {Path(name).name: in_child(lambda path=name: outcome(path)) for name in arguments}
    else:
        source, folder, count = arguments
        report = in_child(lambda: mutations(Path(source), Path(folder), int(count)))
    json.dump(report, sys.stdout)
