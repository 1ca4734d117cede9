"""The base class of encoder-decoder networks."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """An encoder and a decoder, whose sizes follow from the image's shape.

    A subclass sets `encoder`, `posterior` and `decoder`, or overrides the methods that use them.
    """

    encoder: nn.Module  # (B, C, H, W) -> features
    posterior: nn.Module  # features -> (B, 2Z)
    decoder: nn.Sequential  # (N, Z) -> (N, C', H, W)

    def encode(self, images: Tensor) -> Tensor:
        """Mean and log-variance of q(z|x) side by side, (B, 2Z), of images (B, C, H, W)."""
        parameters: Tensor = self.posterior(self.encoder(images))
        return parameters

    def decode(self, z: Tensor) -> Tensor:
        """What the likelihood reads, (N, C', H, W), of codes (N, Z)."""
        outputs: Tensor = self.decoder(z)
        return outputs

    @abstractmethod
    def start_at(self, outputs: Tensor) -> None:
        """Set the decoder's last bias to these outputs (C', H, W), or to the nearest that it can represent."""
