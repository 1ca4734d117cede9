"""How much the latent dimensions carry."""

from typing import cast

import torch
from torch import Tensor

from ..data.pixels import as_pixels, check_some
from ..models import VAE

ACTIVE_UNIT_THRESHOLD = 0.01  # Burda et al. 2016, section 5.1


@torch.inference_mode()
def posterior_statistics(
    model: VAE, images: Tensor, labels: Tensor | None = None, *, batch_size: int = 1000
) -> tuple[Tensor, Tensor]:
    """Posterior means of all images (N, Z) float32, and KL of each latent dimension, (Z,) float64 nats.

    The KL is averaged over the images. To N(0, I) also where the prior of the codes is another, for it alone is a sum
    over dimensions; of the lower groups of a ladder to their prior given the posterior means above.

    Args:
        model: on the device of the images.
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64, for a conditional model; others ignore them.
        batch_size: images held as floats at once.
    """
    check_some(images)
    means = torch.empty(len(images), model.latent_dim)
    kl = torch.zeros(model.latent_dim, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        pairs = model.posteriors(as_pixels(images[part]), labels[part] if labels is not None else None)
        (top, _), *below = pairs
        means[part] = torch.cat([q.mean for q, _ in pairs], dim=1)
        # The groups below the top are Gaussians, whose KL has a closed form.
        parts = [top.kl_to_standard(), *(cast("Tensor", p.kl(q)) for q, p in below)]
        kl += torch.cat([part.sum(0) for part in parts]).cpu().double()
    return means, kl / len(images)


def active_units(means: Tensor) -> int:
    """How many latent dimensions carry information: Var_x(E_q[z_i]) > 0.01 (Burda et al. 2016).

    Args:
        means: (N, Z), posterior means over a whole set.
    """
    return int((means.var(dim=0, correction=0) > ACTIVE_UNIT_THRESHOLD).sum())
