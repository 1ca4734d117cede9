"""Kedro's settings for this project."""

import warnings

from .project.hooks import hooks
from .project.loading import ConfigLoader

# OmegaConf 2.4 deprecates the resolver call that kedro 1.7 makes for each config loader: nothing a user could fix.
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated", category=UserWarning)

HOOKS = (hooks,)

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # A preset names only what differs; by default it would replace a whole group of parameters.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
