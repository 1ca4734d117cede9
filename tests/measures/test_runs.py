"""What is read of the files of a run."""

from math import log

import pytest
import torch

from vae_mnist.measures.measured import Measured
from vae_mnist.measures.runs import Process, Run, cpu_seconds

PIXELS = torch.zeros(32, dtype=torch.uint8)


def process(seconds=1.0, pipelines=("__default__",), resume=True, **selection):
    parameters = {"train": {"resume": resume}}
    return Process(pipelines=list(pipelines), selection=selection, cpu_seconds=seconds, parameters=parameters)


def run(measured=(), of_images=None, **changes):
    facts = {
        "name": "a", "settings": {"train.seed": 0}, "data": "images", "sha256": ("1", "2", "3"),
        "image_shape": (1, 2, 2), "epochs": 2, "parameters": 9, "cpu_seconds": None, "remarks": [],
    }  # fmt: skip
    return Run(**facts | changes, measured=list(measured), of_images=of_images or {})


def measure(name="neg_elbo", value=2.0, error=0.1, better="lower", data="images: binarised", unit="nats", **settings):
    facts = {"unit": unit, "better": better, "data": data, "settings": settings}
    return Measured(name=name, value=value, standard_error=error, **facts)


def test_the_cpu_seconds_of_processes_that_trained_are_added():
    processes = [
        process(1.0), process(2.0, ["ingest", "train"]), process(4.0, ["train"], tags=["train"]),
        process(8.0, ["evaluate"]), process(16.0, tags=["report"]), process(32.0, node_names=["train_model"]),
        process(None),
    ]  # fmt: skip
    assert cpu_seconds(processes) == 1 + 2 + 4 + 32
    assert cpu_seconds([process(None), process(8.0, ["evaluate"])]) is None


def test_training_that_was_started_over_is_counted_from_there():
    processes = [process(1.0), process(2.0, resume=False), process(4.0)]
    assert cpu_seconds(processes) == 6.0


def test_a_process_reads_entries_of_other_versions():
    entry = {"pipelines": ["train"], "parameters": {}, "machine": {"gpus": 8}, "weather": "fine"}
    assert Process.model_validate(entry).trained


def test_the_bounds_of_images_are_those_of_a_measure():
    values = {"neg_elbo": torch.tensor([1.0, 3.0]), "neg_elbo_images": PIXELS}
    of_images, digest = run(of_images=values).values_of(measure(value=2.0))
    assert of_images.tolist() == [1.0, 3.0]
    assert digest == (0,) * 32
    bits = measure("bits_per_dimension", 2 / (4 * log(2)), unit="bits per dimension", of="neg_elbo")
    in_bits, _ = run(of_images=values).values_of(bits)
    assert in_bits.tolist() == pytest.approx([1 / (4 * log(2)), 3 / (4 * log(2))])


def test_bounds_of_another_evaluation_are_not_used():
    values = {"neg_elbo": torch.tensor([1.0, 3.0]), "neg_elbo_images": PIXELS}
    assert run(of_images=values).values_of(measure(value=2.001)) is None
    assert run(of_images=values).values_of(measure("importance_weighted_nll")) is None
    bits = measure("bits_per_dimension", 2 / (4 * log(2)), unit="bits per dimension", of="neg_elbo")
    assert run(of_images=values, image_shape=()).values_of(bits) is None
