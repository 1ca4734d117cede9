"""Evaluate: the newest checkpoint -> metrics.  Run it alone: kedro run --pipelines=evaluate"""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    collect,
    encode_test_images,
    make_judge,
    measure_bounds,
    measure_codes,
    measure_decomposition,
    measure_disentanglement,
    measure_latents,
    measure_sample_quality,
)


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    newest, test, evaluate, train = "checkpoints", "test_images", "params:evaluate", "params:train"
    images, settings = ["train_images", test], [evaluate, train]
    kinds = ["bounds", "latents", "decomposition", "codes", "sample_quality", "disentanglement"]
    return Pipeline(
        [
            Node(measure_bounds, [newest, test, *settings], ["bounds", "image_bounds"], name="measure_bounds"),
            Node(encode_test_images, [newest, test, train], "test_codes", name="encode_test_images"),
            Node(measure_latents, ["test_codes", evaluate], "latents", name="measure_latents"),
            Node(measure_decomposition, [newest, test, evaluate, train], "decomposition", name="measure_decomposition"),
            Node(measure_codes, [newest, *images, "test_codes", *settings], "codes", name="measure_codes"),
            Node(make_judge, [*images, "earlier_judges", *settings], "judges", name="make_judge"),
            Node(
                measure_sample_quality,
                [newest, *images, "judges", *settings],
                "sample_quality",
                name="measure_sample_quality",
            ),
            Node(
                measure_disentanglement,
                [newest, test, "test_codes", *settings],
                "disentanglement",
                name="measure_disentanglement",
            ),
            Node(collect, kinds, "metrics", name="collect_metrics"),
        ],
        tags="evaluate",
    )
