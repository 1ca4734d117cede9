"""The nodes of the evaluate pipeline: a file a kind of measure."""

from itertools import chain

from ....measures.measured import Measured
from .bounds import measure_bounds
from .codes import measure_codes
from .decomposition import measure_decomposition
from .disentanglement import measure_disentanglement
from .latents import encode_test_images, measure_latents
from .samples import make_judge, measure_sample_quality

__all__ = [
    "collect",
    "encode_test_images",
    "make_judge",
    "measure_bounds",
    "measure_codes",
    "measure_decomposition",
    "measure_disentanglement",
    "measure_latents",
    "measure_sample_quality",
]


def collect(*kinds: list[Measured]) -> list[Measured]:
    """All that was measured, one list."""
    return list(chain(*kinds))
