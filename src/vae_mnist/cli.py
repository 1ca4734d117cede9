"""`kedro run` with readable errors: one message for our own, one line after Ctrl-C or SIGTERM."""

import atexit
import copy
import functools
import gc
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import Any, cast

import click
from kedro import KedroDeprecationWarning
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines

from .errors import VaeMnistError
from .project.hooks import hooks

# How often a thread of libgomp looks for work before it sleeps; its own 300,000 keep a core from a neighbour that
# another thread of ours is waiting behind. It counts if it is there before torch is imported.
SPINS = "3000"


class Terminated(KeyboardInterrupt):
    """SIGTERM; ends a run in the same way as Ctrl-C."""


def _plain_end(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        # Python's end would take a second to look through a million objects for cycles.
        atexit.unregister(gc.freeze)
        atexit.register(gc.freeze)
        with warnings.catch_warnings(), _signals_stop():
            # `--pipeline=` still works, as promised to our users, without a warning at each run.
            warnings.filterwarnings(
                "ignore", message="Option '--pipeline' is deprecated", category=KedroDeprecationWarning
            )
            try:
                return command(*args, **kwargs)
            except KeyboardInterrupt as stop:
                number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
                hooks.end(f"stopped by {number.name}")
                click.echo(_how_to_go_on(number, kwargs.get("params")), err=True)
                raise SystemExit(128 + number) from None
            except Exception as error:
                message = _plain(error)
                if message is None:
                    raise
                raise click.ClickException(message) from error

    return wrapped


@contextmanager
def _signals_stop() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 the signature of a handler
        error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        hooks.ask_to_stop(error)
        raise error

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is not signal.default_int_handler:  # ignored, as the shell has it behind an "&"
        del before[signal.SIGINT]
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how_to_go_on(number: signal.Signals, params: dict[str, Any] | None) -> str:
    train = (params or {}).get("train")
    again = isinstance(train, dict) and train.get("resume") is False
    how = "the same command without train.resume=false" if again else "the same command again"
    return f"Stopped by {number.name}. What was finished, every logged epoch included, is safe; to go on: {how}."


def _plain(error: Exception) -> str | None:
    """The message of an error that needs no traceback: one of this project, or of Kedro about what was chosen."""
    if isinstance(error, ValueError) and (wrong := re.match("Failed to find the pipeline named '(.*?)'", str(error))):
        close = get_close_matches(wrong[1], pipelines, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return f"--pipelines: no pipeline is named {wrong[1]!r}. {hint}Known are: {', '.join(pipelines)}."
    if isinstance(error, ValueError) and str(error).startswith(("Pipeline does not contain", "Pipeline contains no")):
        return f"{str(error).rstrip('.')}. kedro registry describe NAME lists the nodes of a pipeline."
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, VaeMnistError):
        cause = cause.__cause__  # Kedro has wrapped it
    return None if cause is None else str(cause)


@click.group(name="vae_mnist")
def cli() -> None:
    """Commands of this project."""


def _named_params(read: Callable[..., Any]) -> Callable[..., Any]:
    """Kedro's reader of --params, which lets errors of YAML escape as they are."""

    def wrapped(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401
        try:
            return read(ctx, param, value)
        except click.ClickException:
            raise
        except Exception as error:
            words = " ".join(str(error).split())
            raise click.BadParameter(
                f"expected key=value pairs, got {value!r}, which cannot be read: {words}"
            ) from error

    return wrapped


run = copy.copy(kedro_run)
run.callback = _plain_end(cast("Callable[..., Any]", kedro_run.callback))
run.params = [copy.copy(option) for option in kedro_run.params]
for option in run.params:
    if option.name == "params" and option.callback:
        option.callback = _named_params(option.callback)
cli.add_command(run)
