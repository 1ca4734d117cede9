"""Kedro-Viz as a user starts it: a real server on this machine, asked what its page asks."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from vae_mnist.pipeline_registry import register_pipelines

from .helpers.project import ROOT

LAYERS = ["raw", "model_input", "models", "model_output", "reporting"]


def free_port():
    """A port below 49152: kedro-viz refuses those above, from which the system would choose."""
    for port in range(24141, 24241):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port between 24141 and 24241")


@pytest.fixture(scope="module")
def viz(finished):
    """`kedro viz run`; gives a function that asks it for a path."""
    port = free_port()
    log = finished.root.parent / "viz.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kedro", "viz", "run", "--no-browser", f"--port={port}"],
            cwd=finished.root,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
            return json.load(response)

    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                ask("/api/main")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()  # noqa: PT018
                time.sleep(0.5)
        yield ask
    finally:
        # the command leaves a server behind when only it is ended
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
def test_every_node_and_dataset_is_shown(viz):
    shown = {node["name"] for node in viz("/api/main")["nodes"]}
    default = register_pipelines()["__default__"]
    assert {node.name for node in default.nodes} <= shown
    assert {name for name in default.datasets() if not name.startswith("params:")} <= shown


@pytest.mark.slow
def test_layers_come_in_the_order_of_the_data(viz):
    assert viz("/api/main")["layers"] == LAYERS


@pytest.mark.slow
def test_every_dataset_has_the_colour_of_its_layer(viz):
    nodes = [node for node in viz("/api/main")["nodes"] if node["type"] == "data"]
    colours = {}
    for node in nodes:
        style = (node["node_extras"] or {}).get("styles")
        assert style, f"{node['name']} has no colour in .viz/styles.json"
        colours.setdefault(node["layer"], set()).add(style["fill"])
    assert set(colours) == set(LAYERS)
    assert all(len(fills) == 1 for fills in colours.values())
    assert len(set.union(*colours.values())) == len(LAYERS)


def test_styles_name_only_datasets_that_exist():
    every = set().union(*(pipeline.datasets() for pipeline in register_pipelines().values()))
    assert set(json.loads((ROOT / ".viz" / "styles.json").read_text())) <= every


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("newest_samples", "ImagePreview"),
        ("newest_reconstructions", "ImagePreview"),
        ("loss_curves", "ImagePreview"),
        ("interactive_loss_curves", "PlotlyPreview"),
        ("loss_table", "TablePreview"),
        ("history", "TablePreview"),
        ("data_card", "JSONPreview"),
        ("metrics", "JSONPreview"),
    ],
)
@pytest.mark.slow
def test_results_have_a_preview(viz, name, kind):
    (node,) = [node for node in viz("/api/main")["nodes"] if node["name"] == name]
    details = viz(f"/api/nodes/{node['id']}")
    assert details["preview_type"] == kind
    assert details["preview"]


@pytest.mark.slow
def test_the_static_site_can_be_built(finished):
    result = finished.kedro("viz", "build", "--include-previews", check=True, cold=True)
    assert "WARNING" not in result.stdout + result.stderr
    page = (finished.root / "build" / "index.html").read_text()
    assert re.search(r"<script.*src=", page)
    nodes = json.loads((finished.root / "build" / "api" / "main").read_text())["nodes"]
    previews = {
        node["name"]: json.loads((finished.root / "build" / "api" / "nodes" / node["id"]).read_text()).get("preview")
        for node in nodes
        if node["type"] == "data"
    }
    shown = {
        "newest_samples",
        "newest_reconstructions",
        "loss_curves",
        "interactive_loss_curves",
        "loss_table",
        "data_card",
    }
    assert shown <= {name for name, preview in previews.items() if preview}
