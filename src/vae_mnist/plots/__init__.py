"""Figures: data in; `PIL.Image.Image` out where images are shown, `matplotlib.figure.Figure` for curves and maps.

No pyplot, no global style, no clock: the same data make the same file. Matplotlib and Plotly are imported where they
draw, because that takes half a second.
"""

from .animation import animation
from .captions import Caption
from .curves import interactive_loss_curves, loss_curves
from .grids import interpolation_strips, reconstruction_grid, sample_grid, traversal_grid
from .latent import latent_map
from .rate_distortion import Point, rate_distortion
from .side_by_side import side_by_side
from .web_page import Entry, Head, WebTable, web_page

__all__ = [
    "Caption",
    "Entry",
    "Head",
    "Point",
    "WebTable",
    "animation",
    "interactive_loss_curves",
    "interpolation_strips",
    "latent_map",
    "loss_curves",
    "rate_distortion",
    "reconstruction_grid",
    "sample_grid",
    "side_by_side",
    "traversal_grid",
    "web_page",
]
