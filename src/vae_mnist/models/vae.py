"""The variational autoencoder of Kingma & Welling (2014), arXiv:1312.6114, put together from its parts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError
from .gaussian import DiagonalGaussian
from .likelihoods import Bernoulli, Likelihood
from .mlp import Mlp
from .network import Network
from .priors import Prior, StandardNormal

# exp(10) = 22,026 stays below 65,504, the largest float16: no precision can overflow at the bound.
LOGVAR_MIN, LOGVAR_MAX = -20.0, 10.0


class Pass(NamedTuple):
    """The result of one pass: all that an objective or a measure may use. S samples, G groups of latents."""

    outputs: Tensor  # (S, B, C', H, W), of the decoder
    nll: Tensor  # (S, B) nats, -log p(x|z)
    posteriors: tuple[DiagonalGaussian, ...]  # G, (B, Z) each
    priors: tuple[Prior, ...]  # G
    z: tuple[Tensor, ...]  # G, (S, B, Z) each

    @property
    def log_q(self) -> Tensor:
        """Log q(z|x) of each group, (S, B, G) nats."""
        return torch.stack([q.log_prob(z) for q, z in zip(self.posteriors, self.z, strict=True)], dim=-1)

    @property
    def log_p(self) -> Tensor:
        """Log p(z) of each group, (S, B, G) nats."""
        return torch.stack([p.log_prob(z) for p, z in zip(self.priors, self.z, strict=True)], dim=-1)

    @property
    def kl(self) -> Tensor | None:
        """KL(q(z|x) || p(z)) of each dimension in closed form, (B, Z) nats; None if a group has none."""
        parts = [p.kl(q) for p, q in zip(self.priors, self.posteriors, strict=True)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return known[0] if len(known) == 1 else torch.cat(known, dim=1)

    @property
    def distortion(self) -> Tensor:
        """-log p(x|z), averaged over the samples, (B,) nats."""
        return self.nll.squeeze(0) if len(self.nll) == 1 else self.nll.mean(0)  # the first is free

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x) || p(z)), (B,) nats: in closed form, else averaged over the samples."""
        kl = self.kl
        return kl.sum(1) if kl is not None else (self.log_q - self.log_p).sum(-1).mean(0)

    @property
    def log_weights(self) -> Tensor:
        """Log p(x, z) - log q(z|x), (S, B) nats (Burda et al. 2016, eq. 6)."""
        return (self.log_p - self.log_q).sum(-1) - self.nll


class VAE(nn.Module):
    """Encoder, diagonal Gaussian posterior, prior, decoder, likelihood.

    >>> model = VAE(latent_dim=20)
    >>> model.decode(torch.zeros(4, 20)).shape
    torch.Size([4, 1, 28, 28])

    Args:
        latent_dim: Z, the number of latent dimensions.
        image_shape: (C, H, W).
        network: encoder and decoder; `Mlp` if not given.
        prior: of the codes; N(0, I) if not given.
        likelihood: of the pixels; Bernoulli if not given.

    Raises:
        ConfigError: a size below 1.
    """

    def __init__(
        self,
        latent_dim: int = 32,
        image_shape: Sequence[int] = (1, 28, 28),
        *,
        network: Network | None = None,
        prior: Prior | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(int(size) for size in image_shape)
        if latent_dim < 1 or len(self.image_shape) != 3 or min(self.image_shape) < 1:  # noqa: PLR2004
            raise ConfigError(
                "VAE: expected latent_dim >= 1 and image_shape (C, H, W) of sizes >= 1, "
                f"got {latent_dim} and {self.image_shape}."
            )
        self.latent_dim = latent_dim
        self.likelihood = likelihood or Bernoulli()
        self.network = network or Mlp(self.image_shape, latent_dim, self.likelihood.outputs)
        self.prior = prior or StandardNormal(latent_dim)

    @property
    def noise_dim(self) -> int:
        """D, the standard normal numbers that a pass needs for each sample of an image."""
        return self.latent_dim

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """q(z|x): mean and log-variance, (B, Z) float32 each.

        Args:
            images: (B, C, H, W), float in [0, 1].

        Raises:
            InputError: another shape, or integers.
        """
        if images.ndim != 4 or images.shape[1:] != self.image_shape or not images.is_floating_point():  # noqa: PLR2004
            raise InputError(
                f"encode: expected float images of shape {_shape('B', *self.image_shape)}, pixels in [0, 1], "
                f"got {_shape(*images.shape)} of {images.dtype}."
            )
        mean, logvar = self.network.encode(images).float().chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX))

    def decode(self, z: Tensor) -> Tensor:
        """Pixel means of p(x|z), (N, C, H, W) in [0, 1].

        Args:
            z: (N, Z).

        Raises:
            InputError: another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:  # noqa: PLR2004
            raise InputError(f"decode: expected z of shape (N, {self.latent_dim}), got {_shape(*z.shape)}.")
        return self.likelihood.mean(self.network.decode(z))

    def forward(self, images: Tensor, noise: Tensor) -> Pass:
        """Encode, draw S samples of each posterior, decode.

        Args:
            images: (B, C, H, W), float in [0, 1].
            noise: (S, B, D) standard normal.
        """
        posterior = self.encode(images)
        z = posterior.sample(noise)  # (S, B, Z)
        outputs = self.network.decode(z.flatten(0, 1))  # (S x B, C', H, W)
        outputs = outputs.view(*z.shape[:2], *outputs.shape[1:])  # (S, B, C', H, W)
        return Pass(outputs, self.likelihood.nll(outputs, images), (posterior,), (self.prior,), (z,))

    def start_at(self, means: Tensor) -> None:
        """Start the decoder at pixel means (C, H, W) in [0, 1]: the best image that ignores the code."""
        self.network.start_at(self.likelihood.outputs_of(means))


def _shape(*sizes: object) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
