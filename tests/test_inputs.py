"""No node and no public function changes what it is given."""

import copy

import pytest
import torch
from kedro.pipeline.node import Node

import vae_mnist
from vae_mnist.pipeline_registry import register_pipelines

from .helpers.compare import same
from .helpers.models import small


def is_read_later(value):
    """Partitions: functions that read a new object whenever they are called."""
    return isinstance(value, dict) and all(callable(each) for each in value.values())


def test_no_node_changes_its_inputs(finished, monkeypatch):
    """They are compared at the end, once the pictures that are made as they are written have been made."""
    given, run = {}, Node.run

    def watched(node, inputs):
        values = {name: value for name, value in inputs.items() if not is_read_later(value)}
        given[node.name] = values, copy.deepcopy(values)
        return run(node, inputs)

    monkeypatch.setattr(Node, "run", watched)
    for pipelines in ("ingest,train,evaluate,report", "generate", "compare"):
        result = finished.invoke(f"--pipelines={pipelines}", run="watched")
        assert result.exit_code == 0, result.output
    assert given.keys() == {node.name for pipeline in register_pipelines().values() for node in pipeline.nodes}
    assert [name for name, (after, before) in given.items() if not same(after, before, ignore=())] == []


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (vae_mnist.decode, ["codes"]),
        (vae_mnist.encode, ["pixels"]),
        (vae_mnist.encode, ["images"]),
        (vae_mnist.interpolate, ["code", "code"]),
        (vae_mnist.reconstruct, ["pixels"]),
        (vae_mnist.sample, ["count"]),
        (vae_mnist.traverse, ["code", "dimensions", "values"]),
    ],
)
def test_no_public_function_changes_its_arguments(function, arguments, images):
    things = {
        "code": torch.zeros(1, 4), "codes": torch.ones(3, 4), "count": 3, "dimensions": [0, 1],
        "images": (images * 255).byte(), "pixels": images, "values": torch.tensor([-1.0, 1.0]),
    }  # fmt: skip
    model, before = small(), copy.deepcopy(things)
    weights = copy.deepcopy(dict(model.state_dict()))
    function(model, *(things[name] for name in arguments))
    assert same(things, before)
    assert same(dict(model.state_dict()), weights)
