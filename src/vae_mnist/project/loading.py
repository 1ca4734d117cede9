"""Kedro's reader of conf/, with errors that name file and line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from ..config.check import unreadable
from ..errors import ConfigError


class ConfigLoader(OmegaConfigLoader):
    """Parameters and globals that cannot be read are a ConfigError; all else is Kedro's own."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """One kind of configuration, merged over the environments.

        Raises:
            ConfigError: the parameters or globals cannot be read.
        """
        if key not in ("parameters", "globals"):
            return super().__getitem__(key)
        with _plain_errors(Path(self.conf_source), self.base_env, self.env or self.default_run_env):
            return super().__getitem__(key)


@contextmanager
def _plain_errors(conf: Path, *environments: str | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # kedro, omegaconf and yaml each have their own
        said = unreadable(error, [conf / name for name in environments if name])
        raise ConfigError(f"wrong parameters, nothing was run:\n  {said}") from error
