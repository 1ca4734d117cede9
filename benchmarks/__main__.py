"""python -m benchmarks [PART …]: who trains the same VAE how fast, on this machine.

Everything runs in processes below this one, one of which works at a time. Keep the machine quiet meanwhile.
"""

import argparse
import inspect
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from . import parts
from .digits import find_digits, lay_out
from .machine import machine
from .tables import facts

PARTS = {
    "epoch": parts.epoch,
    "convolutions": parts.convolutions,
    "target": parts.target,
    "quality": parts.quality,
    "commands": parts.commands,
    "start": parts.start,
    "evaluation": parts.evaluation,
    "size": parts.size,
    "neighbour": parts.neighbour,
    "processes": parts.processes,
}


def main() -> None:
    """Run the parts that were asked for; write benchmarks.json and benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all if none is given: {', '.join(PARTS)}")
    parser.add_argument("--mnist-root", type=Path, default=Path("data/01_raw"), help="holds MNIST/raw/…; else a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestants", default=",".join(parts.NAMES), help="of epoch, convolutions and target")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks-results"), help="a folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"expected parts among {', '.join(PARTS)}, got {', '.join(sorted(unknown))}.")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    raw = find_digits(arguments.mnist_root)
    results = {"digits": raw.name, "machine": machine(arguments.device)}
    lines = [f"{raw.name}. {facts(results['machine'])}"]
    with TemporaryDirectory() as folder:
        settings = parts.Settings(
            raw=raw,
            digits=lay_out(raw, Path(folder)),
            rounds=arguments.rounds,
            contestants=tuple(arguments.contestants.split(",")),
            device=arguments.device,
            say=say,
        )
        for name in arguments.parts or PARTS:
            say(f"== {name}")
            results[name], text = PARTS[name](settings)
            lines += [f"### {name}", inspect.getdoc(PARTS[name]) or "", text]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    whole = "\n\n".join(lines) + "\n"
    (arguments.out / "benchmarks.md").write_text(whole, encoding="utf-8")
    print(whole)


if __name__ == "__main__":
    main()
