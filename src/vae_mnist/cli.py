"""`kedro run` with errors a person can read: what this project raises on purpose ends in one message, no traceback."""

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any, cast

import click
from kedro import KedroDeprecationWarning
from kedro.framework.cli.project import run as kedro_run

from .errors import VaeMnistError


def _plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with warnings.catch_warnings():
            # `--pipeline=` is promised to our users and works; `--pipelines=` does as well.
            warnings.filterwarnings(
                "ignore", message="Option '--pipeline' is deprecated", category=KedroDeprecationWarning
            )
            try:
                return command(*args, **kwargs)
            except Exception as error:
                ours = _ours(error)
                if ours is None:
                    raise
                raise click.ClickException(str(ours)) from error

    return wrapped


def _ours(error: BaseException | None) -> VaeMnistError | None:
    """The error of this project behind one that Kedro wrapped around it."""
    while error is not None and not isinstance(error, VaeMnistError):
        error = error.__cause__
    return error


@click.group(name="vae_mnist")
def cli() -> None:
    """Commands of this project."""


run = copy.copy(kedro_run)
run.callback = _plain_errors(cast("Callable[..., Any]", kedro_run.callback))
cli.add_command(run)
