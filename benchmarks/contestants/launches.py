"""What an epoch costs when its kernels have next to nothing to do: Python, autograd and the launches."""

from pathlib import Path
from typing import ClassVar

import torch

from vae_mnist.data.images import ImageSet

from .ours import Ours


class Launches(Ours):
    """Our training of as many digits in as many steps, but of one pixel each, with one hidden unit and one code."""

    model: ClassVar = {"latent_dim": 1, "mlp": {"hidden_dim": 1}}

    def digits(self, digits: ImageSet, device: torch.device) -> ImageSet:
        """One pixel of each digit, (N, 1, 1, 1)."""
        images = digits["images"][:, :, 14:15, 14:15].contiguous()
        return ImageSet(images=images.to(device), labels=digits["labels"].to(device))


def build(folder: Path, device: str) -> Launches:
    """Ready for its first epoch."""
    return Launches(folder, device)
