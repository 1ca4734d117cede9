"""Build the model that a configuration or a checkpoint describes."""

from collections.abc import Sequence
from typing import assert_never

from ..config.model import ModelConfig
from .autoregressive import Autoregressive
from .continuous_bernoulli import ContinuousBernoulli
from .conv import Conv
from .discretised_logistic import DiscretisedLogistic
from .flow import FlowPrior
from .gaussian_pixels import GaussianPixels
from .ladder import Ladder
from .likelihoods import Bernoulli, Likelihood
from .mixture import MixturePrior, VampPrior
from .mlp import Mlp
from .network import Network, Shapes
from .priors import Prior, StandardNormal
from .residual import Residual
from .vae import VAE, shapes_of


def build_model(config: ModelConfig, image_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> VAE:
    """Build an untrained model; weights are drawn from torch's default generator.

    Args:
        config: the choices and their sizes.
        image_shape: (C, H, W) of the data.
        classes: K of the data, for a conditional model.

    Raises:
        ConfigError: the network cannot be built for images of that shape.
    """
    likelihood, classes = build_likelihood(config, image_shape[0]), classes if config.conditional else 0
    network = build_network(config, shapes_of(config.latent_dim, image_shape, likelihood.outputs, classes))
    prior = build_prior(config, image_shape)
    return VAE(config.latent_dim, image_shape, network=network, prior=prior, likelihood=likelihood, classes=classes)


def build_network(config: ModelConfig, shapes: Shapes) -> Network:
    """The encoder and decoder of `model.network`."""
    match config.network:
        case "mlp":
            return Mlp(shapes, config.mlp.hidden_dim)
        case "conv":
            return Conv(shapes, config.conv)
        case "residual":
            return Residual(shapes, config.residual)
        case "ladder":
            return Ladder(shapes, config.ladder)
        case _:
            assert_never(config.network)


def build_prior(config: ModelConfig, image_shape: Sequence[int]) -> Prior:
    """The prior of `model.prior`."""
    match config.prior:
        case "normal":
            return StandardNormal(config.latent_dim)
        case "mixture":
            return MixturePrior(config.latent_dim, config.mixture)
        case "vamp":
            return VampPrior(config.latent_dim, image_shape, config.vamp)
        case "flow":
            return FlowPrior(config.latent_dim, config.flow)
        case _:
            assert_never(config.prior)


def build_likelihood(config: ModelConfig, channels: int) -> Likelihood:
    """The likelihood of `model.likelihood`, for images of so many channels."""
    match config.likelihood:
        case "bernoulli":
            return Bernoulli()
        case "continuous_bernoulli":
            return ContinuousBernoulli()
        case "gaussian":
            return GaussianPixels()
        case "discretised_logistic":
            return DiscretisedLogistic()
        case "autoregressive":
            return Autoregressive(channels, config.autoregressive)
        case _:
            assert_never(config.likelihood)
