"""Ingest: images -> tensors.  Run it alone: kedro run --pipelines=ingest"""

from kedro.pipeline import Node, Pipeline

from .nodes import read_images, split_images


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    ingest, image_set = "params:ingest", ["train_images", "validation_images", "test_images", "data_card"]
    return Pipeline(
        [
            Node(read_images, ["sources", ingest], "raw_images", name="read_images"),
            Node(split_images, ["raw_images", ingest, "made_images"], image_set, name="split_images"),
        ],
        tags="ingest",
    )
