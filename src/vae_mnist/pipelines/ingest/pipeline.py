"""Ingest: MNIST -> tensors.  Run it alone: kedro run --pipelines=ingest"""

from kedro.pipeline import Node, Pipeline

from .nodes import read_digits, split_digits


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    ingest, digits = "params:ingest", ["train_digits", "validation_digits", "test_digits", "data_card"]
    return Pipeline(
        [
            Node(read_digits, ["raw_mnist", ingest], "raw_digits", name="read_digits"),
            Node(split_digits, ["raw_digits", ingest, "made_digits"], digits, name="split_digits"),
        ],
        tags="ingest",
    )
