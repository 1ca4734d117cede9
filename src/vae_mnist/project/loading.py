"""Kedro's reader of conf/, with plain errors and with the logging.yml of whatever conf/ is used."""

import os
import threading
from pathlib import Path
from typing import Any, cast

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.project import LOGGING
from omegaconf import OmegaConf

from ..config.check import unreadable
from ..errors import ConfigError

_RESOLVERS = threading.RLock()  # OmegaConf keeps one table of them for all loaders of a process


class ConfigLoader(OmegaConfigLoader):
    """Parameters and globals that cannot be read are a ConfigError; all else is Kedro's own."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """One kind of configuration, merged over the environments.

        Raises:
            ConfigError: the parameters or globals cannot be read.
        """
        with _RESOLVERS:
            self._register_globals_resolver()  # another loader may have put its own in place
            if key not in ("parameters", "globals"):
                return super().__getitem__(key)
            try:
                return super().__getitem__(key)
            except MissingConfigException as error:
                raise ConfigError(
                    f"no configuration, nothing was run: {error}. Expected a folder with base/ and the environment "
                    "of --env: conf/ in the working folder, or the folder or archive that --conf-source names."
                ) from error
            except Exception as error:  # kedro, omegaconf and yaml each have their own
                environments = filter(None, (self.base_env, self.env or self.default_run_env))
                folders = [Path(self.conf_source) / name for name in environments]
                said = unreadable(error, folders, self.runtime_params)
                raise ConfigError(f"wrong parameters, nothing was run:\n  {said}") from error

    def use_logging(self) -> None:
        """Log as logging.yml says; Kedro itself finds it only in conf/ of the working folder."""
        path = f"{self._get_conf_env_path('')}/logging.yml"
        if "KEDRO_LOGGING_CONFIG" in os.environ or not self._fs.exists(path):
            return
        with self._fs.open(path) as file:
            config = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file)))
        if config != LOGGING.data:  # handlers that were added since are kept
            LOGGING.configure(config)
