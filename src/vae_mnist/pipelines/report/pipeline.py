"""Report: checkpoints -> pictures and tables.  Run it alone: kedro run --pipelines=report"""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    animate_samples,
    draw_interpolations,
    draw_latent_groups,
    draw_latent_map,
    draw_loss_curves,
    draw_reconstructions,
    draw_samples,
    draw_traversal,
    make_loss_table,
)


def create_pipeline() -> Pipeline:
    """Wire the nodes."""
    run, report, image_set, codes = "params:run", "params:report", "test_images", "test_codes"
    train = "params:train"
    table, curves = ["loss_table", "loss_table_card"], ["loss_curves", "interactive_loss_curves"]
    samples, recons = ["samples", "newest_samples"], ["reconstructions", "newest_reconstructions"]
    tables = [
        Node(make_loss_table, ["checkpoints", "history", run], table, name="make_loss_table"),
        Node(draw_loss_curves, table, curves, name="draw_loss_curves"),
    ]
    grids = [
        Node(draw_samples, ["checkpoints", run, report, train], samples, name="draw_samples"),
        Node(draw_reconstructions, ["checkpoints", image_set, run, report, train], recons, name="draw_reconstructions"),
        Node(animate_samples, ["samples", report], "samples_animation", name="animate_samples"),
    ]
    latent = [
        Node(
            draw_interpolations,
            ["checkpoints", image_set, run, report, train],
            "interpolations",
            name="draw_interpolations",
        ),
        Node(draw_latent_map, ["checkpoints", image_set, codes, run], "latent_map", name="draw_latent_map"),
        Node(draw_traversal, ["checkpoints", image_set, codes, run, report, train], "traversal", name="draw_traversal"),
        Node(draw_latent_groups, ["checkpoints", run, report, train], "latent_groups", name="draw_latent_groups"),
    ]
    parts = {"tables": tables, "grids": grids, "latent": latent}
    return Pipeline([Pipeline(nodes, tags=tag) for tag, nodes in parts.items()], tags="report")
