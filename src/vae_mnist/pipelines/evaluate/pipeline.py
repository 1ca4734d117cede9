"""Evaluate: the newest checkpoint -> metrics.  Run it alone: kedro run --pipelines=evaluate"""

from kedro.pipeline import Node, Pipeline

from .nodes import collect, encode_test_digits, measure_bounds, measure_decomposition, measure_latents


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    model, evaluate, train = ["checkpoints", "test_digits"], "params:evaluate", "params:train"
    return Pipeline(
        [
            Node(measure_bounds, [*model, evaluate, train], "bounds", name="measure_bounds"),
            Node(encode_test_digits, [*model, train], "test_codes", name="encode_test_digits"),
            Node(measure_latents, "test_codes", "latents", name="measure_latents"),
            Node(measure_decomposition, [*model, evaluate, train], "decomposition", name="measure_decomposition"),
            Node(collect, ["bounds", "latents", "decomposition"], "metrics", name="collect_metrics"),
        ],
        tags="evaluate",
    )
