"""Evaluate: the newest checkpoint -> metrics.  Run it alone: kedro run --pipeline=evaluate"""

from kedro.pipeline import Node, Pipeline

from .nodes import evaluate_model


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    return Pipeline(
        [
            Node(
                evaluate_model,
                inputs=["checkpoints", "test_digits", "params:run", "params:evaluate"],
                outputs=["metrics", "test_codes"],
                name="evaluate_model",
            ),
        ],
        tags="evaluate",
    )
