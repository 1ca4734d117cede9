"""What every encoder-decoder network offers."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """An encoder and a decoder; built from the image's shape, so that no size is written down."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Mean and log-variance of q(z|x) side by side, (B, 2Z), of images (B, C, H, W)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """What the likelihood reads, (N, C', H, W), of codes (N, Z)."""

    @abstractmethod
    def start_at(self, outputs: Tensor) -> None:
        """Change the decoder's last bias so that it begins with outputs (C', H, W), as far as it can."""
