"""A variational autoencoder on MNIST: models, losses, training and figures, wired as a Kedro project.

>>> from vae_mnist import VAE, interpolate, load_model
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import VaeMnistError
    from .models import VAE, VAEOutput, build_model
    from .objectives.elbo import kl_divergence, negative_elbo, reconstruction_nll
    from .sampling import decode, encode, interpolate, reconstruct, sample, traverse
    from .storage.checkpoints import load_model

__version__ = _version("vae_mnist")

# Name -> module. Imported on first use: `kedro --help` shall not wait three seconds for torch.
_HOMES = {
    "VAE": "models",
    "VAEOutput": "models",
    "VaeMnistError": "errors",
    "build_model": "models",
    "decode": "sampling",
    "encode": "sampling",
    "interpolate": "sampling",
    "kl_divergence": "objectives.elbo",
    "load_model": "storage.checkpoints",
    "negative_elbo": "objectives.elbo",
    "reconstruct": "sampling",
    "reconstruction_nll": "objectives.elbo",
    "sample": "sampling",
    "traverse": "sampling",
}

__all__ = [
    "VAE",
    "VAEOutput",
    "VaeMnistError",
    "build_model",
    "decode",
    "encode",
    "interpolate",
    "kl_divergence",
    "load_model",
    "negative_elbo",
    "reconstruct",
    "reconstruction_nll",
    "sample",
    "traverse",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
