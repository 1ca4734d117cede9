"""Generate: a checkpoint -> new digits.  Run it alone: kedro run --pipelines=generate"""

from kedro.pipeline import Node, Pipeline

from .nodes import draw_digits, generate_digits, to_images


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    inputs = ["checkpoints", "params:generate", "params:train"]
    tensors, caption = "generated_tensors", "generated_caption"
    return Pipeline(
        [
            Node(generate_digits, inputs, [tensors, caption], name="generate_digits"),
            Node(draw_digits, [tensors, caption, "params:run"], "generated_grid", name="draw_generated_grid"),
            Node(to_images, tensors, "generated_digits", name="write_generated_digits"),
        ],
        tags="generate",
    )
