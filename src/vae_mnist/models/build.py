"""Build the model that a configuration or a checkpoint describes."""

from collections.abc import Sequence
from typing import assert_never

from ..config.parameters import ModelConfig
from .conv import Conv
from .flow import FlowPrior
from .likelihoods import Bernoulli, Likelihood
from .mlp import Mlp
from .network import Network
from .priors import Prior, StandardNormal
from .vae import VAE


def build_model(config: ModelConfig, image_shape: Sequence[int] = (1, 28, 28)) -> VAE:
    """Build an untrained model; weights are drawn from torch's default generator.

    Args:
        config: the choices and their sizes.
        image_shape: (C, H, W) of the data.

    Raises:
        ConfigError: the network cannot be built for images of that shape.
    """
    likelihood = build_likelihood(config)
    network = build_network(config, image_shape, likelihood.outputs)
    return VAE(config.latent_dim, image_shape, network=network, prior=build_prior(config), likelihood=likelihood)


def build_network(config: ModelConfig, image_shape: Sequence[int], outputs: int) -> Network:
    """The encoder and decoder of `model.network`; outputs is the number the likelihood needs per channel."""
    match config.network:
        case "mlp":
            return Mlp(image_shape, config.latent_dim, outputs, config.mlp.hidden_dim)
        case "conv":
            return Conv(image_shape, config.latent_dim, outputs, config.conv)
        case _:
            assert_never(config.network)


def build_prior(config: ModelConfig) -> Prior:
    """The prior of `model.prior`."""
    match config.prior:
        case "normal":
            return StandardNormal(config.latent_dim)
        case "flow":
            return FlowPrior(config.latent_dim, config.flow)
        case _:
            assert_never(config.prior)


def build_likelihood(config: ModelConfig) -> Likelihood:
    """The likelihood of `model.likelihood`."""
    match config.likelihood:
        case "bernoulli":
            return Bernoulli()
        case _:
            assert_never(config.likelihood)
