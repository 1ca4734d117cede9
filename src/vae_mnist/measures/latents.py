"""How much the latent dimensions carry."""

import torch
from torch import Tensor

from ..data.pixels import as_pixels, check_some
from ..models import VAE

ACTIVE_UNIT_THRESHOLD = 0.01  # Burda et al. 2016, section 5.1


@torch.inference_mode()
def posterior_statistics(model: VAE, images: Tensor, *, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Posterior means of all images (N, Z) float32, and KL to N(0, I) of each latent dimension, (Z,) float64 nats.

    The KL is averaged over the images. To N(0, I) also where the model's prior is another, for it alone is a sum over
    dimensions.

    Args:
        model: on the device of the images.
        images: (N, C, H, W) uint8, or float in [0, 1].
        batch_size: images held as floats at once.
    """
    check_some(images)
    means = torch.empty(len(images), model.latent_dim)
    kl = torch.zeros(model.latent_dim, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        posterior = model.encode(as_pixels(images[start : start + batch_size]))
        means[start : start + batch_size] = posterior.mean
        kl += posterior.kl_to_standard().sum(0).cpu().double()
    return means, kl / len(images)


def active_units(means: Tensor) -> int:
    """How many latent dimensions carry information: Var_x(E_q[z_i]) > 0.01 (Burda et al. 2016).

    Args:
        means: (N, Z), posterior means over a whole set.
    """
    return int((means.var(dim=0, correction=0) > ACTIVE_UNIT_THRESHOLD).sum())
