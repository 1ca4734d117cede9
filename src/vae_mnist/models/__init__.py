"""The models, by name. A new one is a file beside `vae.py` and a line in `MODELS`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.parameters import ModelConfig
from ..errors import ConfigError
from .vae import VAE, VAEOutput

__all__ = ["MODELS", "VAE", "VAEOutput", "build_model"]

MODELS: Mapping[str, type[VAE]] = {"vae": VAE}


def build_model(config: ModelConfig, image_shape: Sequence[int] = (1, 28, 28)) -> VAE:
    """Build an untrained model; weights are drawn from torch's default generator.

    Args:
        config: name and sizes.
        image_shape: (C, H, W) of the data.

    Raises:
        ConfigError: no model of that name.
    """
    settings: dict[str, Any] = config.model_dump()
    name = settings.pop("name")
    if name not in MODELS:
        raise ConfigError(f"model.name: expected one of {', '.join(MODELS)}, got {name!r}.")
    return MODELS[name](**settings, image_shape=image_shape)
