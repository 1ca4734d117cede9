"""One contestant in a process of its own: python -m benchmarks.contestants NAME FOLDER DEVICE

NAME is a module here, and after colons its variants: ours:float32:compiled

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
    module, *variants = name.split(":")
    contestant = importlib.import_module(f"benchmarks.contestants.{module}").build(Path(folder), device, *variants)

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer("ready")
    for line in sys.stdin:
        answer(contestant.answer(line.strip()))


if __name__ == "__main__":
    main(*sys.argv[1:])
