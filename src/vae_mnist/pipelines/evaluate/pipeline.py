"""Evaluate: the newest checkpoint -> metrics.  Run it alone: kedro run --pipelines=evaluate"""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    collect,
    encode_test_images,
    measure_bounds,
    measure_codes,
    measure_decomposition,
    measure_latents,
)


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    newest, test, evaluate, train = "checkpoints", "test_images", "params:evaluate", "params:train"
    image_set = ["train_images", test]
    return Pipeline(
        [
            Node(measure_bounds, [newest, test, evaluate, train], "bounds", name="measure_bounds"),
            Node(encode_test_images, [newest, test, train], "test_codes", name="encode_test_images"),
            Node(measure_latents, ["test_codes", evaluate], "latents", name="measure_latents"),
            Node(measure_decomposition, [newest, test, evaluate, train], "decomposition", name="measure_decomposition"),
            Node(measure_codes, [newest, *image_set, "test_codes", evaluate, train], "codes", name="measure_codes"),
            Node(collect, ["bounds", "latents", "decomposition", "codes"], "metrics", name="collect_metrics"),
        ],
        tags="evaluate",
    )
