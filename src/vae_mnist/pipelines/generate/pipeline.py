"""Generate: a checkpoint -> new images.  Run it alone: kedro run --pipelines=generate"""

from kedro.pipeline import Node, Pipeline

from .nodes import draw_images, generate_images, to_images


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    inputs = ["checkpoints", "params:generate", "params:train"]
    tensors, caption = "generated_tensors", "generated_caption"
    return Pipeline(
        [
            Node(generate_images, inputs, [tensors, caption], name="generate_images"),
            Node(draw_images, [tensors, caption, "params:run"], "generated_grid", name="draw_generated_grid"),
            Node(to_images, tensors, "generated_images", name="write_generated_images"),
        ],
        tags="generate",
    )
