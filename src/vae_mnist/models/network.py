"""What every encoder-decoder network offers."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """An encoder and a decoder, whose sizes follow from the image's shape."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Mean and log-variance of q(z|x) side by side, (B, 2Z), of images (B, C, H, W)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """What the likelihood reads, (N, C', H, W), of codes (N, Z)."""

    @abstractmethod
    def start_at(self, outputs: Tensor) -> None:
        """Set the decoder's last bias to these outputs (C', H, W), or to the nearest that it can represent."""
