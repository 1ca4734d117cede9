"""`python -m vae_mnist` is `kedro run`, also where only the package is installed."""

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
        os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")  # there is no .telemetry file here to say no
    if int(os.environ.get("RANK", "0")) > 0:  # the first of torchrun's processes alone reads, writes and logs
        from .training.together import follow

        return follow()
    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    try:
        result = find_run_command(package)(*args, **kwargs)
    except SystemExit as end:
        if not end.code:
            _dismiss()
        raise
    _dismiss()
    return result


def _dismiss() -> None:
    """Let torchrun's other processes end: they wait for something to train."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from .training.together import dismiss

        dismiss()


if __name__ == "__main__":
    main()
