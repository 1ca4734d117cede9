"""The nodes of the report pipeline."""

from .losses import draw_loss_curves, make_loss_table
from .pictures import (
    animate_samples,
    draw_interpolations,
    draw_latent_groups,
    draw_latent_map,
    draw_reconstructions,
    draw_samples,
    draw_traversal,
)

__all__ = [
    "animate_samples",
    "draw_interpolations",
    "draw_latent_groups",
    "draw_latent_map",
    "draw_loss_curves",
    "draw_reconstructions",
    "draw_samples",
    "draw_traversal",
    "make_loss_table",
]
