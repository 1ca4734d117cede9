import json

import pytest
import torch
from safetensors.torch import load_file

from vae_mnist.data.images import binarise
from vae_mnist.measures.bounds import active_units, importance_weighted, loss_parts, posterior_statistics
from vae_mnist.storage.checkpoints import load_model, weights_digest


@pytest.fixture(scope="module")
def metrics(finished):
    return json.loads(finished.path("07_model_output", "default", "metrics.json").read_text(encoding="utf-8"))


def test_metrics_and_codes_are_those_of_the_newest_checkpoint(metrics, finished, checkpoint_path, sample_digits):
    model, images = load_model(checkpoint_path), sample_digits[1]["images"]
    parts = loss_parts(model, images)
    assert metrics["epoch"] == 2
    assert metrics["test"]["loss"] == pytest.approx(parts.loss, rel=1e-6)
    assert metrics["test"]["bce"] + metrics["test"]["kld"] == pytest.approx(metrics["test"]["neg_elbo"])
    means, kl = posterior_statistics(model, images)
    assert metrics["active_units"]["count"] == active_units(means)
    assert metrics["kl_per_dimension"] == pytest.approx(kl.tolist(), rel=1e-6)
    codes = load_file(finished.path("07_model_output", "default", "test_codes.safetensors"))
    torch.testing.assert_close(codes["means"], means)
    torch.testing.assert_close(codes["kl"], kl)
    assert torch.equal(codes["weights"], weights_digest(model.state_dict()))
    assert sum(metrics["kl_per_dimension"]) == pytest.approx(metrics["test"]["kld"], rel=1e-5)


def test_the_bound_says_on_which_pixels_it_holds(metrics, checkpoint_path, sample_digits):
    bound = metrics["importance_weighted_nll"]
    targets, sha256 = binarise(sample_digits[1]["images"], seed=0)
    expected = importance_weighted(load_model(checkpoint_path), targets, 3)
    assert bound["value"] == pytest.approx(expected.nll, rel=1e-6)
    assert bound["binarisation_sha256"] == sha256
    assert bound["data_mode"].startswith("dynamically binarised")
    assert bound["k"] == 3
    assert bound["value"] < bound["neg_elbo_of_the_same_data"]
    assert "no density of grey images" in metrics["test"]["note"]


def test_grey_pixels_are_called_grey(finished):
    assert finished.invoke("--pipeline=train", run="grey").exit_code == 0
    assert finished.invoke("--pipeline=evaluate", run="grey", evaluate__binarisation="none").exit_code == 0
    metrics = json.loads(finished.path("07_model_output", "grey", "metrics.json").read_text(encoding="utf-8"))
    bound = metrics["importance_weighted_nll"]
    assert bound["data_mode"] == "grey pixels as Bernoulli means"
    assert bound["binarisation_sha256"] is None
    assert bound["note"].startswith("no density of grey images")


def test_the_run_and_its_data_stand_in_the_metrics(metrics):
    assert metrics["run"] == "default"
    assert metrics["dataset"]["title"] == "5,000-digit sample of MNIST: 4,000 training + 1,000 test digits"
    assert metrics["unit"].startswith("nats per image")


@pytest.mark.usefixtures("ingested")
def test_other_test_digits_than_the_runs_are_refused(project):
    project.invoke("--pipeline=train")
    folder = project.path("05_model_input")
    (folder / "test_digits.safetensors").write_bytes((folder / "train_digits.safetensors").read_bytes())
    result = project.invoke("--pipeline=evaluate")
    assert result.exit_code == 1
    assert "test_digits: expected those of the run, 5,000-digit sample" in result.output
