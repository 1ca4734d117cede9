"""Report: checkpoints -> pictures and tables.  Run it alone: kedro run --pipeline=report"""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    animate_samples,
    draw_interpolations,
    draw_latent_map,
    draw_loss_curves,
    draw_reconstructions,
    draw_samples,
    draw_traversal,
    make_loss_table,
)


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    run, report = "params:run", "params:report"
    return Pipeline(
        [
            Node(
                make_loss_table,
                inputs=["checkpoints", "history", run],
                outputs=["loss_table", "loss_table_card"],
                name="make_loss_table",
            ),
            Node(
                draw_loss_curves,
                inputs=["loss_table", "loss_table_card"],
                outputs=["loss_curves", "interactive_loss_curves"],
                name="draw_loss_curves",
            ),
            Node(
                draw_samples,
                inputs=["checkpoints", run, report],
                outputs=["samples", "newest_samples"],
                name="draw_samples",
            ),
            Node(
                draw_reconstructions,
                inputs=["checkpoints", "test_digits", run, report],
                outputs=["reconstructions", "newest_reconstructions"],
                name="draw_reconstructions",
            ),
            Node(
                draw_interpolations,
                inputs=["checkpoints", "test_digits", run, report],
                outputs="interpolations",
                name="draw_interpolations",
            ),
            Node(
                draw_latent_map,
                inputs=["checkpoints", "test_digits", run],
                outputs="latent_map",
                name="draw_latent_map",
            ),
            Node(
                draw_traversal,
                inputs=["checkpoints", "test_digits", run, report],
                outputs="traversal",
                name="draw_traversal",
            ),
            Node(
                animate_samples,
                inputs=["samples", report],
                outputs="samples_animation",
                name="animate_samples",
            ),
        ],
        tags="report",
    )
