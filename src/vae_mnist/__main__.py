"""`python -m vae_mnist` is `kedro run`, also where only the package is installed."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project
from kedro.utils import find_kedro_project

from .errors import VaeMnistError


def main(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Run the project in the working folder; takes the options of `kedro run`."""
    if find_kedro_project(Path.cwd()) is None:
        os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")  # there is no .telemetry file here to say no
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if int(os.environ.get("RANK", "0")) > 0:  # the first of torchrun's processes alone reads, writes and logs
        from .training.together import follow

        try:
            return follow()
        except VaeMnistError as error:
            sys.exit(f"Error: {error}")
    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    try:
        return find_run_command(package)(*args, **kwargs)
    except SystemExit as end:
        if not end.code and "TORCHELASTIC_RUN_ID" in os.environ:
            from .training.together import dismiss

            dismiss()  # the other processes wait for something to train
        raise


def _end_with(parent: int) -> None:
    """End this process as soon as torchrun, which started it, has gone, however it was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
