"""The variational autoencoder of Kingma & Welling (2014), arXiv:1312.6114, put together from its parts."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ..errors import ConfigError, InputError
from .gaussian import DiagonalGaussian
from .likelihoods import Bernoulli, Likelihood
from .mlp import Mlp
from .network import Network, Shapes
from .priors import CodeDistribution, Prior, PriorDistribution, StandardNormal
from .result import Pass


class VAE(nn.Module):
    """Encoder, diagonal Gaussian posterior, prior, decoder, likelihood.

    >>> model = VAE(latent_dim=20)
    >>> model.decode(torch.zeros(4, 20)).shape
    torch.Size([4, 1, 28, 28])

    A conditional model reads a label as one more plane beside the image, and as a one-hot vector behind the code.

    Args:
        latent_dim: latent dimensions, of the top group if there are several.
        image_shape: (C, H, W).
        network: encoder and decoder; `Mlp` if not given.
        prior: of the codes; N(0, I) if not given.
        likelihood: of the pixels; Bernoulli if not given.
        classes: K of a conditional model, q(z|x, y) and p(x|z, y); 0: not conditional, labels are ignored.

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
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(int(size) for size in image_shape)
        if latent_dim < 1 or len(self.image_shape) != 3 or min(self.image_shape) < 1:  # noqa: PLR2004
            raise ConfigError(
                "VAE: expected latent_dim >= 1 and image_shape (C, H, W) of sizes >= 1, "
                f"got {latent_dim} and {self.image_shape}."
            )
        self.classes = classes
        self.likelihood = likelihood or Bernoulli()
        self.network = network or Mlp(shapes_of(latent_dim, self.image_shape, self.likelihood.outputs, classes))
        self.prior = prior or StandardNormal(latent_dim)
        self.groups = (latent_dim, *self.network.groups)  # sizes of the groups of latents, top first
        if classes:
            self.planes = nn.Embedding(classes, self.image_shape[1] * self.image_shape[2])  # what the encoder reads

    @property
    def latent_dim(self) -> int:
        """Z, the latent dimensions of all groups."""
        return sum(self.groups)

    @property
    def noise_dim(self) -> int:
        """D, the standard normal numbers that a pass needs for each sample of an image."""
        return self.latent_dim

    def encode(self, images: Tensor, labels: Tensor | None = None) -> DiagonalGaussian:
        """q(z|x): mean and log-variance, (B, Z) float32 each; of several groups, side by side.

        The posterior of a lower group is that given the means of the groups above.

        Args:
            images: (B, C, H, W), float in [0, 1].
            labels: (B,) int64, 0..K-1, for a conditional model.

        Raises:
            InputError: another shape, or integers; a conditional model without labels.
        """
        posteriors = [posterior for posterior, _ in self.posteriors(images, labels)]
        if len(posteriors) == 1:
            return posteriors[0]
        return DiagonalGaussian(*(torch.cat(parts, dim=1) for parts in zip(*posteriors, strict=True)))

    def posteriors(
        self, images: Tensor, labels: Tensor | None = None
    ) -> list[tuple[DiagonalGaussian, CodeDistribution]]:
        """(q, p) of each group, (B, Z) each, given the posterior means of the groups above; see `encode`."""
        top, features = self._ascend(images, labels)
        pairs: list[tuple[DiagonalGaussian, CodeDistribution]] = [(top, self.prior_now())]

        def choose(_: int, prior: DiagonalGaussian, posterior: DiagonalGaussian | None) -> Tensor:
            assert posterior is not None  # noqa: S101 features were given
            pairs.append((posterior, prior))
            return posterior.mean

        if len(self.groups) > 1:
            self.network.descend(self._code(top.mean, labels), choose, features)
        return pairs

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Pixel means of p(x|z), (N, C, H, W) in [0, 1].

        Args:
            z: (N, Z); or the codes of the first groups alone, with those below at their conditional means.
            labels: (N,) int64, 0..K-1, for a conditional model.

        Raises:
            InputError: another shape; a conditional model without labels.
        """
        return self.likelihood.mean(self._descend(z, labels)[0])

    def complete(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Codes of all groups, (N, Z), given those of the first ones.

        Args:
            z: (N, Z'), the codes of one group or more, from the top.
            labels: (N,) int64, 0..K-1, for a conditional model.
            noise: (N, Z - Z') standard normal, to draw the groups below from p(z_g | z_<g); None: their means.

        Raises:
            InputError: another shape; a conditional model without labels.
        """
        return z if z.shape[1:] == (self.latent_dim,) else torch.cat(self._descend(z, labels, noise)[1], dim=1)

    def prior_now(self) -> PriorDistribution:
        """p(z), of the top group if there are several, with the weights as they are."""

        def encode(images: Tensor) -> DiagonalGaussian:
            # Pseudo-inputs of a conditional model belong to each class in turn.
            labels = torch.arange(len(images), device=images.device) % self.classes if self.classes else None
            return self._ascend(images, labels)[0]

        return self.prior.given(encode)

    def forward(self, images: Tensor, noise: Tensor, labels: Tensor | None = None) -> Pass:
        """Encode, draw S samples of each posterior, decode.

        Args:
            images: (B, C, H, W), float in [0, 1].
            noise: (S, B, D) standard normal.
            labels: (B,) int64, 0..K-1, for a conditional model; ignored by others.
        """
        samples, count = noise.shape[:2]
        noises = noise.split(self.groups, dim=-1)
        top, features = self._ascend(images, labels)
        posteriors, priors, codes = [top], [cast("CodeDistribution", self.prior_now())], [top.sample(noises[0])]

        def choose(group: int, prior: DiagonalGaussian, posterior: DiagonalGaussian | None) -> Tensor:
            assert posterior is not None  # noqa: S101 features were given
            p, q = (DiagonalGaussian(*(part.view(samples, count, -1) for part in each)) for each in (prior, posterior))
            z = q.sample(noises[group])  # (S, B, Z)
            posteriors.append(q)
            priors.append(p)
            codes.append(z)
            return z.flatten(0, 1)

        several = labels.repeat(samples) if self.classes and labels is not None else None
        code = self._code(codes[0].flatten(0, 1), several)
        outputs = self.network.descend(code, choose, features)  # (S x B, C', H, W)
        outputs = outputs.view(samples, count, *outputs.shape[1:])  # (S, B, C', H, W)
        nll = self.likelihood.nll(outputs, images)
        return Pass(outputs, nll, tuple(posteriors), tuple(priors), tuple(codes))

    def start_at(self, means: Tensor) -> None:
        """Start the decoder at pixel means (C, H, W) in [0, 1]: the best image that ignores the code."""
        self.network.start_at(self.likelihood.outputs_of(means))

    def _ascend(self, images: Tensor, labels: Tensor | None) -> tuple[DiagonalGaussian, tuple[Tensor, ...]]:
        if images.ndim != 4 or images.shape[1:] != self.image_shape or not images.is_floating_point():  # noqa: PLR2004
            raise InputError(
                f"encode: expected float images of shape {_shape('B', *self.image_shape)}, pixels in [0, 1], "
                f"got {_shape(*images.shape)} of {images.dtype}."
            )
        if self.classes:
            planes: Tensor = self.planes(self._checked(labels, len(images)))
            images = torch.cat([images, planes.view(-1, 1, *self.image_shape[1:])], dim=1)
        parameters, features = self.network.ascend(images)
        return DiagonalGaussian.of(parameters), features

    def _descend(self, z: Tensor, labels: Tensor | None, noise: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Outputs (N, C', H, W) and the codes of each group, of the codes of the first groups."""
        ends = list(accumulate(self.groups))
        if z.ndim != 2 or z.shape[1] not in ends:  # noqa: PLR2004
            raise InputError(
                f"decode: expected z of shape (N, {self.latent_dim})"
                f"{f' or (N, {self.groups[0]}) of the top group' if len(ends) > 1 else ''}, got {_shape(*z.shape)}."
            )
        given = ends.index(z.shape[1]) + 1
        codes: list[Tensor] = list(z.split(self.groups[:given], dim=1))
        noises = noise.split(self.groups[given:], dim=1) if noise is not None else ()

        def choose(group: int, prior: DiagonalGaussian, _: DiagonalGaussian | None) -> Tensor:
            if group >= given:
                codes.append(prior.sample(noises[group - given]) if noises else prior.mean)
            return codes[group]

        return self.network.descend(self._code(codes[0], labels), choose, None), codes

    def _code(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """What the decoder reads."""
        if not self.classes:
            return z
        one_hot = torch.eye(self.classes, dtype=z.dtype, device=z.device)
        return torch.cat([z, embedding(self._checked(labels, len(z)), one_hot)], dim=1)

    def _checked(self, labels: Tensor | None, count: int) -> Tensor:
        if labels is None or labels.shape != (count,) or labels.dtype != torch.int64:
            came = "none" if labels is None else f"{_shape(*labels.shape)} of {labels.dtype}"
            raise InputError(
                f"labels: a conditional model expects int64 labels of 0 to {self.classes - 1}, one for each of the "
                f"{count}, got {came}."
            )
        return labels


def shapes_of(latent_dim: int, image_shape: Sequence[int], outputs: int, classes: int) -> Shapes:
    """The sizes of a network; outputs is the number that the likelihood needs per channel."""
    channels, *sides = image_shape
    return Shapes((channels + (classes > 0), *sides), latent_dim, latent_dim + classes, (outputs * channels, *sides))


def _shape(*sizes: object) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
