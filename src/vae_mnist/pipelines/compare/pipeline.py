"""Compare: all runs -> tables and figures.  Run it alone: kedro run --pipelines=compare"""

from kedro.pipeline import Node, Pipeline

from .nodes import describe_runs, draw_rate_distortion, draw_run_samples, make_comparison


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    compare, train, described = "params:compare", "params:train", "described_runs"
    table = ["comparison_table", "comparison_page"]
    return Pipeline(
        [
            Node(describe_runs, ["runs", compare], described, name="describe_runs"),
            Node(make_comparison, described, table, name="make_comparison"),
            Node(draw_rate_distortion, described, "rate_distortion", name="draw_rate_distortion"),
            Node(draw_run_samples, ["runs", compare, train], "run_samples", name="draw_run_samples"),
        ],
        tags="compare",
    )
