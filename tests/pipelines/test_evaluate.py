import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from vae_mnist import load_model
from vae_mnist.config.parameters import Kinds
from vae_mnist.data.pixels import binarise
from vae_mnist.measures.bounds import average_terms, evenly_spread, importance_weighted
from vae_mnist.measures.codes import accuracies
from vae_mnist.measures.decomposition import decompose_rate
from vae_mnist.measures.disentanglement import disentanglement
from vae_mnist.measures.distances import frechet_distance, gaussian_kl, gaussian_total_correlation
from vae_mnist.measures.judge import judged, unfilled_judge
from vae_mnist.measures.latents import active_units, aggregate_moments, posterior_statistics, prior_moments
from vae_mnist.measures.measured import Measured
from vae_mnist.objectives import Elbo
from vae_mnist.pipelines.evaluate.nodes import bounds
from vae_mnist.storage.checkpoints import read_checkpoint, weights_digest

KINDS = tuple(Kinds.model_fields)


def read(project, kind="metrics", run="default"):
    content = json.loads(project.path("07_model_output", run, f"{kind}.json").read_text(encoding="utf-8"))
    return [Measured(**each) for each in content]


def one(measured, name, words=""):
    (found,) = (each for each in measured if each.name == name and words in each.data)
    return found


@pytest.fixture(scope="module")
def metrics(finished):
    return read(finished)


def test_metrics_are_the_union_of_one_file_a_kind(metrics, finished):
    assert metrics == [each for kind in KINDS for each in read(finished, kind)]


def test_losses_are_those_of_the_newest_checkpoint(metrics, checkpoint_path, sample_images):
    losses = average_terms(load_model(checkpoint_path), Elbo(), sample_images[1]["images"])
    loss = one(metrics, "loss")
    assert loss.value == pytest.approx(losses.loss, rel=1e-6)
    assert (loss.unit, loss.better) == ("nats per image", "lower")
    assert loss.data == "5,000-digit sample of MNIST: 1,000 test images, grey pixels as Bernoulli means"
    assert loss.settings["epoch"] == 2
    assert loss.settings["objective.beta"] == 1.0
    assert one(metrics, "distortion", "grey").value == pytest.approx(losses.distortion, rel=1e-6)
    assert one(metrics, "rate", "grey").value == pytest.approx(losses.rate, rel=1e-6)
    assert one(metrics, "neg_elbo", "grey").value == pytest.approx(losses.neg_elbo, rel=1e-6)


def test_the_bound_can_be_measured_again_from_what_it_states(metrics, checkpoint_path, sample_images):
    bound = one(metrics, "importance_weighted_nll")
    assert bound.data.endswith("dynamically binarised")
    targets, sha256 = binarise(sample_images[1]["images"], seed=bound.settings["binarisation_seed"])
    assert bound.settings["binarisation_sha256"] == sha256
    names = {"samples", "seed", "chunk_size"}
    given = {name: bound.settings[name] for name in names}
    again = importance_weighted(load_model(checkpoint_path), targets, **given)
    assert bound.value == pytest.approx(again.nll, rel=1e-6)
    assert bound.standard_error == pytest.approx(again.standard_error, rel=1e-6)
    assert bound.value < one(metrics, "neg_elbo", "binarised").value


def test_the_bounds_of_each_image_are_kept_with_the_checksum_of_the_images(metrics, finished, sample_images):
    kept = load_file(finished.path("07_model_output", "default", "image_bounds.safetensors"))
    for name in ("neg_elbo", "importance_weighted_nll"):
        bound = one(metrics, name, "binarised")
        assert kept[name].shape == (1000,)
        assert kept[name].mean().item() == pytest.approx(bound.value, rel=1e-6)
        assert kept[name].double().std().item() / 1000**0.5 == pytest.approx(bound.standard_error, rel=1e-5)
        digest = binarise(sample_images[1]["images"], seed=0)[1]
        assert bytes(kept[f"{name}_images"].tolist()).hex() == digest


def test_codes_and_what_they_carry(metrics, finished, checkpoint_path, sample_images):
    model = load_model(checkpoint_path)
    means, kl, variances = posterior_statistics(model, sample_images[1]["images"])
    codes = load_file(finished.path("07_model_output", "default", "test_codes.safetensors"))
    torch.testing.assert_close(codes["means"], means)
    torch.testing.assert_close(codes["kl"], kl)
    assert torch.equal(codes["weights"], weights_digest(model.state_dict()))
    assert one(metrics, "active_units").value == active_units(means)
    torch.testing.assert_close(codes["variances"], variances)
    aggregate, prior = aggregate_moments(means, variances), prior_moments(model)
    assert one(metrics, "aggregate_kl", "to N(0, I)").value == pytest.approx(gaussian_kl(aggregate, prior), rel=1e-5)
    distance = one(metrics, "aggregate_frechet_distance", "to N(0, I)").value
    assert distance == pytest.approx(frechet_distance(aggregate, prior), rel=1e-5)
    dependence = one(metrics, "aggregate_total_correlation").value
    assert dependence == pytest.approx(gaussian_total_correlation(aggregate), rel=1e-5)
    each = [measured.value for measured in metrics if measured.name == "kl_of_dimension"]
    assert each == pytest.approx(kl.tolist(), rel=1e-6)
    assert sum(each) == pytest.approx(one(metrics, "rate", "grey").value, rel=1e-5)


def test_grey_pixels_are_called_grey(finished):
    assert finished.invoke("--pipelines=train", run="grey").exit_code == 0
    assert finished.invoke("--pipelines=evaluate", run="grey", evaluate__binarisation="none").exit_code == 0
    bound = one(read(finished, run="grey"), "importance_weighted_nll")
    assert bound.data.endswith("grey pixels as Bernoulli means")
    assert "binarisation_sha256" not in bound.settings


def test_the_bound_of_some_images_says_how_many_and_which(
    finished, checkpoint_path, sample_images, monkeypatch, caplog
):
    shutil.copytree(finished.path("06_models", "default"), finished.path("06_models", "some"))
    monkeypatch.setattr(bounds.logger, "handlers", [caplog.handler])
    assert finished.invoke("--pipelines=evaluate", run="some", evaluate__images=30).exit_code == 0
    measured = read(finished, run="some")
    bound = one(measured, "importance_weighted_nll")
    assert bound.data == ("5,000-digit sample of MNIST: 30 of 1,000 test images, evenly spread, dynamically binarised")
    assert bound.settings["images"] == 30
    targets, sha256 = binarise(sample_images[1]["images"], seed=0)
    assert bound.settings["binarisation_sha256"] == sha256
    again = importance_weighted(load_model(checkpoint_path), evenly_spread(targets, 30), 3, seed=0, chunk_size=500)
    assert bound.value == pytest.approx(again.nll, rel=1e-6)
    assert one(measured, "neg_elbo", "binarised") == one(read(finished), "neg_elbo", "binarised")
    kept = load_file(finished.path("07_model_output", "some", "image_bounds.safetensors"))
    assert (len(kept["neg_elbo"]), len(kept["importance_weighted_nll"])) == (1000, 30)
    value = f"importance_weighted_nll {bound.value:.2f} +- {bound.standard_error:.2f} nats"
    assert f"{value}, k = 3, {bound.data} (sha256 of all 1,000: {sha256[:12]}…)" in caplog.text


@pytest.mark.parametrize(
    ("likelihood", "kind"),
    [
        ("continuous_bernoulli", "grey pixels in [0, 1]"),
        ("gaussian", "grey pixels in [0, 1]"),
        ("discretised_logistic", "8-bit grey pixels"),
    ],
)
def test_likelihoods_of_grey_values_are_measured_on_grey_pixels(finished, sample_images, likelihood, kind):
    given = {"run": likelihood, "model__likelihood": likelihood, "train__epochs": 1}
    assert finished.invoke("--pipelines=train,evaluate", **given).exit_code == 0
    measured = read(finished, kind="bounds", run=likelihood)
    assert {each.data for each in measured} == {f"5,000-digit sample of MNIST: 1,000 test images, {kind}"}
    assert not any("binarisation_sha256" in each.settings for each in measured)
    model = load_model(finished.path("06_models", likelihood, "vae_epoch_001.pt"))
    losses = average_terms(model, Elbo(), sample_images[1]["images"])
    assert one(measured, "neg_elbo").value == pytest.approx(losses.neg_elbo, rel=1e-6)
    bits = {each.settings["of"]: each for each in measured if each.name == "bits_per_dimension"}
    if likelihood != "discretised_logistic":
        assert bits == {}
        return
    for name in ("neg_elbo", "importance_weighted_nll"):
        assert bits[name].value == pytest.approx(one(measured, name).value / (784 * math.log(2)), rel=1e-9)
    bound = one(measured, "importance_weighted_nll")
    assert bits[bound.name].standard_error == pytest.approx(bound.standard_error / (784 * math.log(2)), rel=1e-9)
    assert 0 < bits[bound.name].value < bits["neg_elbo"].value < 8  # 8 bits would describe any image


def test_a_checkpoint_of_grey_values_is_not_measured_on_binarised_pixels(finished):
    """Its run may have another likelihood than the parameters of this one."""
    assert finished.invoke("--pipelines=train", run="density", model__likelihood="gaussian").exit_code == 0
    result = finished.invoke("--pipelines=evaluate", run="density", evaluate__binarisation="dynamic")
    assert result.exit_code == 1
    assert "evaluate.binarisation: expected auto or none for a checkpoint whose likelihood" in result.output


def test_a_checkpoint_of_dependent_pixels_is_not_measured_on_grey_ones(finished):
    """Grey values of the pixels before would say more about a pixel than black and white ones."""
    small = {"model__autoregressive__features": 2, "model__autoregressive__blocks": 0, "train__epochs": 1}
    dependent = {"run": "dependent", "model__likelihood": "autoregressive", "train__binarisation": "dynamic"}
    assert finished.invoke("--pipelines=train", **dependent, **small).exit_code == 0
    result = finished.invoke("--pipelines=evaluate", run="dependent", evaluate__binarisation="none")
    assert result.exit_code == 1
    assert "evaluate.binarisation: expected auto or dynamic for a checkpoint whose likelihood" in result.output


def test_evaluation_uses_the_precision_of_the_run(finished, sample_images):
    params = {"run": "half", "train__precision": "bfloat16"}
    assert finished.invoke("--pipelines=train,evaluate", **params).exit_code == 0
    half = one(read(finished, run="half"), "loss")
    assert half.settings["precision"] == "bfloat16"
    model = load_model(finished.path("06_models", "half", "vae_epoch_002.pt"))
    exact = average_terms(model, Elbo(), sample_images[1]["images"])
    assert half.value != exact.loss
    assert half.value == pytest.approx(exact.loss, rel=0.01)


@pytest.mark.parametrize(
    ("run", "choices"),
    [
        ("warmup", {"objective__elbo__kl_warmup_steps": 50}),
        ("factor", {"objective__name": "factor", "objective__factor__gamma": 1000.0}),
    ],
)
def test_the_loss_is_that_of_the_objective_as_it_was_after_the_newest_epoch(finished, run, choices):
    said = finished.run("--pipelines=train,evaluate", run=run, **choices).stdout.splitlines()
    row = read_checkpoint(finished.path("06_models", run, "vae_epoch_002.pt")).history[-1]
    assert one(read(finished, run=run), "loss").value == pytest.approx(row["test_loss"], rel=1e-6)
    assert row["test_loss"] != pytest.approx(row["test_neg_elbo"], rel=1e-4)
    epoch, test = (next(line for line in said if words in line) for words in ("epoch 2/2", "importance_w"))
    for line in (epoch, test):
        assert f"kld {row['test_kld']:.2f}" in line
        assert f"neg_elbo {row['test_neg_elbo']:.2f}" in line


def test_the_parts_of_the_rate_are_measured_if_asked_for(finished, sample_images):
    assert read(finished, "decomposition") == []
    assert finished.invoke("--pipelines=train", run="parted").exit_code == 0
    asked = {"run": "parted", "evaluate__kinds__decomposition": True, "evaluate__decomposition_images": 200}
    assert finished.invoke("--pipelines=evaluate", **asked).exit_code == 0
    parts = read(finished, "decomposition", "parted")
    assert all(part in read(finished, run="parted") for part in parts)
    model = load_model(finished.path("06_models", "parted", "vae_epoch_002.pt"))
    again = decompose_rate(model, sample_images[1]["images"][::5], seed=parts[0].settings["seed"])
    for part, (name, (value, error)) in zip(parts, again._asdict().items(), strict=True):
        assert part.name == name
        assert part.value == pytest.approx(value, rel=1e-5)
        assert part.standard_error == pytest.approx(error, rel=1e-5)
    assert parts[0].data == "5,000-digit sample of MNIST: 200 evenly spread test images, grey pixels"


def test_labels_are_read_from_codes_and_pixels_if_asked_for(finished, sample_images, checkpoint_path, monkeypatch):
    monkeypatch.setattr("vae_mnist.measures.codes.FEW", (100,))  # 1,000 labels take ten times as long
    assert read(finished, "codes") == []
    shutil.copytree(finished.path("06_models", "default"), finished.path("06_models", "read"))
    assert finished.invoke("--pipelines=evaluate", run="read", evaluate__kinds__codes=True).exit_code == 0
    measured = read(finished, "codes", "read")
    assert all(each in read(finished, run="read") for each in measured)
    model, (train, test) = load_model(checkpoint_path), sample_images
    of_codes = [posterior_statistics(model, each["images"])[0] for each in (train, test)]
    of_pixels = [each["images"].flatten(1) / 255 for each in (train, test)]
    again = [
        each
        for of_train, of_test in (of_codes, of_pixels)
        for each in accuracies((of_train, train["labels"]), (of_test, test["labels"]), seed=0)
    ]
    for each, accuracy in zip(measured, again, strict=True):
        assert each.name == f"{accuracy.reader}_accuracy"
        assert (each.settings["labels"], each.settings["draws"]) == (accuracy.labels, accuracy.draws)
        assert each.value == pytest.approx(accuracy.value, abs=0.002)
    sample = "5,000-digit sample of MNIST: {} of 1,000 test images"
    words = ["posterior means"] * 4 + ["grey pixels"] * 4
    assert [each.data for each in measured] == [sample.format(name) for name in words]
    assert all(each.value > 0.6 for each in measured if "pixels" in each.data)  # the model has hardly learned


def test_samples_are_judged_if_asked_for_by_a_judge_that_is_trained_once(finished, sample_images):
    assert read(finished, "sample_quality") == []
    asked = {"run": "judged", "evaluate__kinds__sample_quality": True, "evaluate__sample_images": 300}
    assert finished.invoke("--pipelines=train", run="judged").exit_code == 0
    result = finished.invoke("--pipelines=evaluate", **asked)
    assert result.exit_code == 0, result.output
    measured = read(finished, "sample_quality", "judged")
    assert all(each in read(finished, run="judged") for each in measured)

    distance, floor = (one(measured, f"{name}frechet_distance") for name in ("", "floor_"))
    assert distance.value > 10 * floor.value > 0, "the model has hardly learned"
    sample = "5,000-digit sample of MNIST: {} and 300 test images, by features of the judge"
    assert distance.data == sample.format("pixel means of 300 samples")
    assert floor.data == sample.format("300 training images")
    assert 0.95 < distance.settings["judge_accuracy"] < 1
    assert one(measured, "floor_precision").value > 0.7
    assert one(measured, "floor_class_entropy").value == pytest.approx(math.log(10), abs=0.05)
    shares = [each for each in measured if each.name == "share_of_class"]
    assert [each.settings["class"] for each in shares] == list("0123456789")
    assert sum(each.value for each in shares) == pytest.approx(1)

    (path,) = finished.path("05_model_input", "judges").iterdir()
    made, content, judge = path.stat().st_ino, path.read_bytes(), unfilled_judge(1, 10)
    weights = {name: tensor for name, tensor in load_file(path).items() if name != "accuracy"}
    judge.load_state_dict(weights, assign=True)
    said = judged(judge.eval(), sample_images[1]["images"]).probabilities.argmax(1)
    right = (said == sample_images[1]["labels"]).double().mean()
    assert right == pytest.approx(distance.settings["judge_accuracy"], abs=0.002)

    finished.invoke("--pipelines=evaluate", **asked)
    assert path.stat().st_ino == made
    save_file({"accuracy": torch.ones((), dtype=torch.float64)}, path)
    finished.invoke("--pipelines=evaluate", **asked)
    assert path.read_bytes() == content, "made again, to the bit"
    assert read(finished, "sample_quality", "judged") == measured


def test_disentanglement_needs_images_whose_factors_are_known(finished):
    shutil.copytree(finished.path("06_models", "default"), finished.path("06_models", "tangled"))
    result = finished.invoke("--pipelines=evaluate", run="tangled", evaluate__kinds__disentanglement=True)
    assert result.exit_code == 1
    assert "expected images whose factors are known, got 5,000-digit sample of MNIST" in result.output


@pytest.mark.slow
def test_disentanglement_of_sprites_is_that_of_their_test_codes(project):
    given = {"ingest__source": "sprites", "train__epochs": 1, "evaluate__kinds__disentanglement": True}
    result = project.invoke("--pipelines=ingest,train,evaluate,report", **given)
    assert result.exit_code == 0, result.output
    codes = load_file(project.path("07_model_output", "default", "test_codes.safetensors"))
    images = load_file(project.path("05_model_input", "test_images.safetensors"))
    measured = read(project, "disentanglement")
    again = disentanglement(codes["means"], images["factors"], seed=0)
    assert [each.name for each in measured] == list(again._fields)
    assert [each.value for each in measured] == pytest.approx(list(again), abs=1e-6)
    assert {each.data for each in measured} == {"sprites: posterior means of 3,600 test images"}
    assert measured[0].settings["factors"] == "shape, scale, rotation, x, y"


def test_codes_are_compared_with_those_of_another_prior(finished):
    given = {"run": "mixture", "model__prior": "mixture", "train__epochs": 1}
    assert finished.invoke("--pipelines=train,evaluate", **given).exit_code == 0
    measured = read(finished, "latents", "mixture")
    model = load_model(finished.path("06_models", "mixture", "vae_epoch_001.pt"))
    codes = load_file(finished.path("07_model_output", "mixture", "test_codes.safetensors"))
    aggregate = aggregate_moments(codes["means"], codes["variances"])
    distance = one(measured, "aggregate_frechet_distance", "to 10,000 codes of the prior")
    assert distance.value == pytest.approx(frechet_distance(aggregate, prior_moments(model)), rel=1e-3)
    assert distance.settings == {"prior_codes": 10_000, "prior_seed": 0}


def test_codes_of_an_earlier_version_are_refused(finished):
    for folder in ("06_models", "07_model_output"):
        shutil.copytree(finished.path(folder, "default"), finished.path(folder, "older"))
    path = finished.path("07_model_output", "older", "test_codes.safetensors")
    codes = load_file(path)
    save_file({name: tensor for name, tensor in codes.items() if name != "variances"}, path)
    result = finished.invoke("--nodes=measure_latents", run="older")
    assert result.exit_code == 1
    assert "test_codes: expected variances as well, got groups, kl, " in result.output
    assert finished.invoke("--pipelines=evaluate", run="older").exit_code == 0


def test_kinds_can_be_switched_off(finished):
    off = {f"evaluate__kinds__{kind}": False for kind in KINDS}
    for folder in ("06_models", "07_model_output"):
        shutil.copytree(finished.path(folder, "default"), finished.path(folder, "unmeasured"))
    result = finished.invoke("--pipelines=evaluate,report", run="unmeasured", **off)
    assert result.exit_code == 0, result.output
    assert read(finished, run="unmeasured") == []
    assert load_file(finished.path("07_model_output", "unmeasured", "image_bounds.safetensors")) == {}


@pytest.mark.usefixtures("ingested")
def test_other_test_images_than_the_runs_are_refused(project):
    project.invoke("--pipelines=train")
    folder = project.path("05_model_input")
    (folder / "test_images.safetensors").write_bytes((folder / "train_images.safetensors").read_bytes())
    result = project.invoke("--pipelines=evaluate")
    assert result.exit_code == 1
    assert "test_images: expected those of the run, 5,000-digit sample" in result.output
