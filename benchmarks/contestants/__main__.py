"""One contestant in a process of its own: python -m benchmarks.contestants NAME FOLDER DEVICE

Answers each line of its input, such as "epoch" or "test", with a line of JSON. Asked for nothing, it does nothing.
"""

import importlib
import json
import sys
from pathlib import Path


def main(name: str, folder: str, device: str) -> None:
    """Build it, say so, and wait for orders."""
    # What a library prints must not pass for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    contestant = importlib.import_module(f"benchmarks.contestants.{name}").build(Path(folder), device)

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer("ready")
    for line in sys.stdin:
        answer(contestant.answer(line.strip()))


if __name__ == "__main__":
    main(*sys.argv[1:])
