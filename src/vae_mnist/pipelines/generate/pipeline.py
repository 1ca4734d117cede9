"""Generate: a checkpoint -> new digits.  Run it alone: kedro run --pipelines=generate"""

from kedro.pipeline import Node, Pipeline

from .nodes import draw_digits, generate_digits, to_images


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    return Pipeline(
        [
            Node(
                generate_digits,
                inputs=["checkpoints", "params:generate", "params:train"],
                outputs=["generated_tensors", "generated_caption"],
                name="generate_digits",
            ),
            Node(
                draw_digits,
                inputs=["generated_tensors", "generated_caption", "params:run"],
                outputs="generated_grid",
                name="draw_generated_grid",
            ),
            Node(
                to_images,
                inputs="generated_tensors",
                outputs="generated_digits",
                name="write_generated_digits",
            ),
        ],
        tags="generate",
    )
