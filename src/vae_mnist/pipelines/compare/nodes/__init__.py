"""The nodes of the compare pipeline: what is read of the runs, the tables, the figures."""

from .describe import describe_runs
from .figures import draw_rate_distortion, draw_run_samples
from .table import make_comparison

__all__ = ["describe_runs", "draw_rate_distortion", "draw_run_samples", "make_comparison"]
