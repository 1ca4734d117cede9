"""Ingest: MNIST -> tensors.  Run it alone: kedro run --pipeline=ingest"""

from kedro.pipeline import Node, Pipeline

from .nodes import describe_digits, read_digits, split_digits


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    return Pipeline(
        [
            Node(read_digits, inputs=["raw_mnist", "params:ingest"], outputs="raw_digits", name="read_digits"),
            Node(
                split_digits,
                inputs=["raw_digits", "params:ingest"],
                outputs=["train_digits", "validation_digits", "test_digits"],
                name="split_digits",
            ),
            Node(
                describe_digits,
                inputs=["raw_digits", "train_digits", "validation_digits", "test_digits"],
                outputs="data_card",
                name="describe_digits",
            ),
        ],
        tags="ingest",
    )
