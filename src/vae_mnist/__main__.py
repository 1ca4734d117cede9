"""`python -m vae_mnist` is `kedro run`, also where only the package is installed."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project
from kedro.utils import find_kedro_project


def main(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Run the project in the working folder; takes the options of `kedro run`."""
    if find_kedro_project(Path.cwd()) is None:
        # There is no .telemetry file here to say no, and no .viz folder to keep statistics in.
        os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
        logging.getLogger("kedro_viz").setLevel(logging.ERROR)
    if int(os.environ.get("RANK", "0")) > 0:  # the first of torchrun's processes alone reads, writes and tells
        from .training.workers import follow

        return follow()
    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
