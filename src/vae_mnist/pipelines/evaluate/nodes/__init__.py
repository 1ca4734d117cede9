"""The nodes of the evaluate pipeline: a file a kind of measure."""

from itertools import chain

from ....measures.measured import Measured
from .bounds import measure_bounds
from .codes import measure_codes
from .decomposition import measure_decomposition
from .latents import encode_test_images, measure_latents

__all__ = [
    "collect",
    "encode_test_images",
    "measure_bounds",
    "measure_codes",
    "measure_decomposition",
    "measure_latents",
]


def collect(*kinds: list[Measured]) -> list[Measured]:
    """All that was measured, one list."""
    return list(chain(*kinds))
