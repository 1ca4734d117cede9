"""The variational autoencoder of Kingma & Welling (2014), arXiv:1312.6114, with one hidden layer a side."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError

# exp(10) = 22,026 stays below 65,504, the largest float16: no precision can overflow at the bound.
LOGVAR_MIN, LOGVAR_MAX = -20.0, 10.0


class VAEOutput(NamedTuple):
    """What one pass gives."""

    logits: Tensor  # (B, C, H, W), of Bernoulli pixels
    mean: Tensor  # (B, Z), of q(z|x)
    logvar: Tensor  # (B, Z), of q(z|x)


class VAE(nn.Module):
    """Encoder, diagonal Gaussian posterior, standard normal prior, decoder with Bernoulli pixels.

    >>> model = VAE(latent_dim=20)
    >>> model.decode(torch.zeros(4, 20)).shape
    torch.Size([4, 1, 28, 28])

    Args:
        latent_dim: Z, the number of latent dimensions.
        hidden_dim: width of the hidden layer on each side.
        image_shape: (C, H, W).

    Raises:
        ConfigError: a size below 1.
    """

    def __init__(self, latent_dim: int = 32, hidden_dim: int = 512, image_shape: Sequence[int] = (1, 28, 28)) -> None:
        super().__init__()
        self.image_shape = tuple(int(size) for size in image_shape)
        if latent_dim < 1 or hidden_dim < 1 or len(self.image_shape) != 3 or min(self.image_shape) < 1:  # noqa: PLR2004
            raise ConfigError(
                "VAE: expected latent_dim >= 1, hidden_dim >= 1 and image_shape (C, H, W) of sizes >= 1, "
                f"got {latent_dim}, {hidden_dim} and {self.image_shape}."
            )
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        pixels = prod(self.image_shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden_dim), nn.ReLU())
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)  # mean and log-variance in one product
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, pixels),
            nn.Unflatten(1, self.image_shape),
        )

    @torch.no_grad()
    def set_output_bias(self, means: Tensor) -> None:
        """Have the last layer begin with pixel means, (C, H, W) in [0, 1]: the best picture that knows no code."""
        # A pixel that is always black stays finite.
        cast("Tensor", self.decoder[2].bias).copy_(torch.logit(means.flatten(), eps=1e-3))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), (B, Z) float32 each.

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
        mean, logvar = self.posterior(self.encoder(images)).float().chunk(2, dim=1)
        return mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Logits of p(x|z), (B, C, H, W).

        Args:
            z: (B, Z).

        Raises:
            InputError: another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:  # noqa: PLR2004
            raise InputError(f"decode: expected z of shape (B, {self.latent_dim}), got {_shape(*z.shape)}.")
        logits: Tensor = self.decoder(z)
        return logits

    def decode(self, z: Tensor) -> Tensor:
        """Pixel means of p(x|z), (B, C, H, W) in [0, 1]; z is (B, Z)."""
        return torch.sigmoid(self.decode_logits(z).float())

    def forward(self, images: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """One pass with one posterior sample per image.

        Args:
            images: (B, C, H, W), float in [0, 1].
            noise: (B, Z) standard normal; drawn from torch's default generator if None.
        """
        mean, logvar = self.encode(images)
        z = reparameterise(mean, logvar, noise)
        return VAEOutput(self.decode_logits(z), mean, logvar)


def reparameterise(mean: Tensor, logvar: Tensor, noise: Tensor | None = None) -> Tensor:
    """A sample of N(mean, exp(logvar)) that gradients flow through: mean + exp(logvar / 2) x noise, (B, Z)."""
    if noise is None:
        noise = torch.randn_like(mean)
    return torch.addcmul(mean, torch.exp(0.5 * logvar), noise)


def _shape(*sizes: object) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
