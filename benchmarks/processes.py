"""Processes that are measured: those that answer, and those that run to their end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parents[1]


class Answering:
    """A contestant that waits for orders.

    Args:
        process: of `contestants/__main__.py`.
        errors: the file that its standard error goes to.
    """

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def ask(self, order: str) -> Any:
        """Its answer to "epoch" or "test".

        Raises:
            RuntimeError: it has died; with what it printed.
        """
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """Wait for a line of JSON."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            told = self._errors.read_text(encoding="utf-8")[-3000:]
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}:\n{told}")
        return json.loads(line)

    def peak_megabytes(self) -> float:
        """Its largest resident memory so far (Linux)."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


@contextmanager
def contestant(
    name: str, digits: Path, device: str = "cpu", environment: Mapping[str, str] | None = None
) -> Iterator[Answering]:
    """Start a contestant; it is ended with the block."""
    command = [sys.executable, "-m", "benchmarks.contestants", name, str(digits), device]
    with NamedTemporaryFile("w", suffix=f"-{name}.txt") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        with process:
            try:
                yield Answering(process, Path(errors.name))
            finally:
                process.kill()


@dataclass(frozen=True)
class Cost:
    """What a process took from its start to its end, with the processes that it started and waited for."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float  # of the largest process
    output: str


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    started = perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | dict(environment or {}),
    ) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, output)
