"""The base classes of networks: what turns images into posteriors, and codes into images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .gaussian import DiagonalGaussian

Choose = Callable[[int, DiagonalGaussian, DiagonalGaussian | None], Tensor]
"""(group, p(z_g | z_<g), q(z_g | z_<g, x) or None) -> z_g, (N, Z_g): how the latents below the top are chosen."""


class Shapes(NamedTuple):
    """Sizes that a network must have; they follow from the data, the code and the likelihood."""

    inputs: Sequence[int]  # (C, H, W), what the encoder reads: an image, and a plane for its label if it has one
    latent_dim: int  # Z, of the top group of latents
    code_dim: int  # what the decoder reads: Z numbers, and the label behind them if there is one
    outputs: Sequence[int]  # (C', H, W), what the likelihood reads


class Network(nn.Module, ABC):
    """From images to latents and back, perhaps in several groups of latents."""

    groups: tuple[int, ...] = ()  # Z_2, Z_3, …: sizes of the groups of latents below the top, in the order of sampling

    @abstractmethod
    def ascend(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mean and log-variance of q(z_1|x) side by side, (B, 2Z), and the features that `descend` needs.

        Args:
            images: (B, C, H, W).
        """

    @abstractmethod
    def descend(self, code: Tensor, choose: Choose, features: tuple[Tensor, ...] | None) -> Tensor:
        """What the likelihood reads, (N, C', H, W).

        Args:
            code: (N, code_dim), of the top group.
            choose: gives the latents of each group below, in order.
            features: of B images, N = S x B, code s x B + b belongs to image b; None: no posterior is known.
        """

    @abstractmethod
    def start_at(self, outputs: Tensor) -> None:
        """Set the decoder's last bias to these outputs (C', H, W), or to the nearest that it can represent."""


class EncoderDecoder(Network):
    """A network with one group of latents.

    A subclass sets `encoder`, `posterior` and `decoder`, or overrides the methods that use them.
    """

    encoder: nn.Module  # (B, C, H, W) -> features
    posterior: nn.Module  # features -> (B, 2Z)
    decoder: nn.Sequential  # (N, code_dim) -> (N, C', H, W)

    def encode(self, images: Tensor) -> Tensor:
        """Mean and log-variance of q(z|x) side by side, (B, 2Z), of images (B, C, H, W)."""
        parameters: Tensor = self.posterior(self.encoder(images))
        return parameters

    def decode(self, code: Tensor) -> Tensor:
        """What the likelihood reads, (N, C', H, W), of codes (N, code_dim)."""
        outputs: Tensor = self.decoder(code)
        return outputs

    def ascend(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Network.ascend`; there are no other features."""
        return self.encode(images), ()

    def descend(self, code: Tensor, choose: Choose, features: tuple[Tensor, ...] | None) -> Tensor:  # noqa: ARG002
        """See `Network.descend`; there are no groups to choose."""
        return self.decode(code)
