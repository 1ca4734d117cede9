"""The project as a user has it: a copy in a folder, and its commands."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from .forkserver import ROOT, environment, start

# A model so small that a test trains it in a second; given to every run that is not about the default model.
TINY = {
    "ingest.source": "sample",
    "model.mlp.hidden_dim": 16,
    "model.latent_dim": 4,
    "train.epochs": 2,
    "train.batch_size": 500,
    "evaluate.importance_samples": 3,
    "train.threads": 1,
    "train.precision": "float32",  # auto depends on the processor
    "train.compile": False,
}


LOSS_COLUMNS = [
    "epoch",
    *(f"{split}_{part}" for split in ("train", "test") for part in ("loss", "bce", "kld")),
    "seconds",
    "learning_rate",
]


def as_params(**overrides):
    """`--params=…` of the tiny run with changes; a double underscore stands for the dot."""
    settings = TINY | {key.replace("__", "."): value for key, value in overrides.items()}
    return "--params=" + ",".join(f"{key}={value}" for key, value in settings.items())


def without_coverage():
    """The environment of a process that is not traced: one that is to be killed, or that may write little."""
    return {name: value for name, value in environment().items() if not name.startswith("COVERAGE_")}


class Project:
    """A copy of the project in a folder of its own, where commands run as a user would type them."""

    def __init__(self, root):
        self.root = root
        for name in ("conf", "notebooks", "src", ".viz"):
            if (ROOT / name).exists():
                ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "stats.json")
                shutil.copytree(ROOT / name, root / name, ignore=ignore)
        for name in ("pyproject.toml", "README.md", "LICENSE", ".telemetry", ".gitignore"):
            shutil.copy(ROOT / name, root / name)

    def command(self, *words, timeout=300, check=False, env=None, cold=False, **options):
        """Run a command here; output is text. `cold`: see `forkserver.start`."""
        # `kedro ipython` looks for its program on the path, as it stands in an activated environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        options |= {"cwd": self.root, "env": environment() | {"PATH": path} | (env or {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with start(words, cold=cold, **pipes, **options) as process:
            try:
                output = process.communicate(timeout=timeout)
            finally:
                process.kill()
        if check:
            assert process.returncode == 0, "".join(output)
        return subprocess.CompletedProcess(words, process.returncode, *output)

    def kedro(self, *words, **options):
        return self.command(sys.executable, "-m", "kedro", *words, **options)

    def run(self, *words, check=True, cold=False, **overrides):
        """`kedro run` of the tiny model."""
        return self.kedro("run", *words, as_params(**overrides), check=check, cold=cold)

    def invoke(self, *words, **overrides):
        """`kedro run` in this process, where starting up costs nothing; the way through is the same."""
        from click.testing import CliRunner
        from kedro.framework.cli.cli import KedroCLI

        with self._here():
            params = [] if any(word.startswith("--params") for word in words) else [as_params(**overrides)]
            return CliRunner().invoke(KedroCLI(self.root), ["run", *words, *params])

    def catalog(self):
        """The catalog as a session has it."""
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        with self._here():
            bootstrap_project(self.root)
            with KedroSession.create(self.root) as session:
                return session.load_context().catalog

    @contextlib.contextmanager
    def _here(self):
        """Work in the project's folder; what Kedro puts on the paths of this process does not stay."""
        with contextlib.chdir(self.root), patch.dict(os.environ), patch.object(sys, "path", [*sys.path]):
            yield

    def path(self, *parts):
        return self.root.joinpath("data", *parts)
