"""Train: images -> checkpoints.  Run it alone: kedro run --pipelines=train"""

from kedro.pipeline import Node, Pipeline

from .nodes import train_model


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    return Pipeline(
        [
            Node(
                train_model,
                inputs=[
                    "train_images",
                    "validation_images",
                    "test_images",
                    "data_card",
                    "resume_point",
                    "params:run",
                    "params:model",
                    "params:objective",
                    "params:train",
                ],
                outputs=["checkpoints", "history"],
                name="train_model",
            ),
        ],
        tags="train",
    )
