"""Kedro-Viz's static site, which holds what its server answers: nodes, layers, colours and previews."""

import json

import pytest

from vae_mnist.pipeline_registry import register_pipelines

from .helpers.project import ROOT

LAYERS = ["raw", "model_input", "models", "model_output", "reporting"]
PREVIEWS = {
    "newest_samples": "ImagePreview",
    "newest_reconstructions": "ImagePreview",
    "loss_curves": "ImagePreview",
    "interactive_loss_curves": "PlotlyPreview",
    "loss_table": "TablePreview",
    "history": "TablePreview",
    "data_card": "JSONPreview",
    "metrics": "JSONPreview",
    "comparison_table": "TablePreview",
    "rate_distortion": "ImagePreview",
    "run_samples": "ImagePreview",
}


@pytest.mark.slow
def test_the_site_shows_every_node_and_dataset_with_layer_colour_and_preview(finished):
    for _ in range(2):  # before and after there is a comparison
        result = finished.kedro("viz", "build", "--include-previews", check=True, cold=True)
        assert "WARNING" not in result.stdout + result.stderr
        assert finished.invoke("--pipelines=compare").exit_code == 0
    build = finished.root / "build"
    assert "<script" in (build / "index.html").read_text()
    site = json.loads((build / "api" / "main").read_text())
    nodes = {node["name"]: node for node in site["nodes"]}
    default = register_pipelines()["__default__"]
    assert {node.name for node in default.nodes} <= nodes.keys()
    assert {name for name in default.datasets() if not name.startswith("params:")} <= nodes.keys()
    assert site["layers"] == LAYERS

    colours = {
        (node["layer"], node["node_extras"]["styles"]["fill"]) for node in nodes.values() if node["type"] == "data"
    }
    assert sorted(layer for layer, _ in colours) == sorted(LAYERS), "one colour a layer"
    assert len({fill for _, fill in colours}) == len(LAYERS), "another for each"

    compared = json.loads((build / "api" / "pipelines" / "compare").read_text())["nodes"]
    nodes |= {node["name"]: node for node in compared}
    details = {name: json.loads((build / "api" / "nodes" / nodes[name]["id"]).read_text()) for name in PREVIEWS}
    assert {name: detail["preview_type"] for name, detail in details.items()} == PREVIEWS
    assert all(detail["preview"] for detail in details.values())


def test_styles_name_only_datasets_that_exist():
    every = set().union(*(pipeline.datasets() for pipeline in register_pipelines().values()))
    assert set(json.loads((ROOT / ".viz" / "styles.json").read_text())) <= every
