"""Figures: data in; `PIL.Image.Image` out where images are shown, `matplotlib.figure.Figure` for curves and maps.

No pyplot, no global style, no clock: the same data make the same file. Matplotlib and Plotly are imported where they
draw, because that takes half a second.
"""

from .animation import animation
from .captions import Caption
from .curves import interactive_loss_curves, loss_curves
from .grids import interpolation_strips, reconstruction_grid, sample_grid, traversal_grid
from .latent import latent_map

__all__ = [
    "Caption",
    "animation",
    "interactive_loss_curves",
    "interpolation_strips",
    "latent_map",
    "loss_curves",
    "reconstruction_grid",
    "sample_grid",
    "traversal_grid",
]
