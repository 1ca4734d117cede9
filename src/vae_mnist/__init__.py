"""A variational autoencoder on MNIST: models, objectives, training and figures, wired as a Kedro project.

>>> from vae_mnist import VAE, interpolate, load_model

The public names are those of `__init__.pyi`. Each is imported on first use: `kedro --help` must not wait for torch.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy_loader

__version__ = _version("vae_mnist")
__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)
