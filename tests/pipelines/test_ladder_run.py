"""A run of a conditional ladder on binarised images in colour, through all pipelines."""

import json
import math
import shutil
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vae_mnist import encode, interpolate, load_model, sample, traverse
from vae_mnist.data.pixels import as_pixels, binarise
from vae_mnist.measures.bounds import average_terms, importance_weighted
from vae_mnist.measures.latents import posterior_statistics
from vae_mnist.measures.measured import Measured
from vae_mnist.objectives import Elbo
from vae_mnist.plots import Caption, interpolation_strips, traversal_grid
from vae_mnist.sampling import complete, decode
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.project import Project

CHOICES = {
    "model__network": "ladder",
    "model__conditional": "true",
    "train__binarisation": "dynamic",
    "train__average": 0.9,
    "train__epochs": 1,
    "report__sample_side": 3,
    "report__traversal_dims": 2,
    "report__interpolation_pairs": 1,
    "ingest__image_size": 32,
    "ingest__channels": 3,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("ladder") / "project")
    result = project.invoke(run="cl", **CHOICES)
    assert result.exit_code == 0, result.output
    return project


@pytest.fixture(scope="module")
def model(project):
    return load_model(project.path("06_models", "cl", "vae_epoch_001.pt"))


@pytest.fixture(scope="module")
def image_set(project):
    return load_file(project.path("05_model_input", "test_images.safetensors"))


def measured(project, name):
    content = json.loads(project.path("07_model_output", "cl", "metrics.json").read_text(encoding="utf-8"))
    return [Measured(**each) for each in content if each["name"] == name]


def test_losses_are_measured_on_pixels_as_in_training(project, model, image_set):
    (loss,) = measured(project, "loss")
    images, _ = binarise(image_set["images"], 0)
    expected = average_terms(model, Elbo(), images, image_set["labels"])
    assert loss.value == pytest.approx(expected.loss, rel=1e-5)
    assert loss.data.endswith("in colour: 1,000 test images given their labels, dynamically binarised")
    (bound,) = measured(project, "neg_elbo")
    assert bound.value == pytest.approx(expected.neg_elbo, rel=1e-5)


def test_the_bound_is_given_the_labels(project, model, image_set):
    (bound,) = measured(project, "importance_weighted_nll")
    assert bound.data.endswith("in colour: 1,000 test images given their labels, dynamically binarised")
    images, _ = binarise(image_set["images"], 0)
    settings = {name: bound.settings[name] for name in ("samples", "seed", "chunk_size")}
    assert bound.value == pytest.approx(importance_weighted(model, images, labels=image_set["labels"], **settings).nll)


def test_each_group_of_latents_is_measured(project, model, image_set):
    _, kl, _ = posterior_statistics(model, image_set["images"], image_set["labels"])
    expected = [float(group.sum()) for group in kl.split(list(model.groups))]
    assert [each.value for each in measured(project, "kl_of_group")] == pytest.approx(expected, rel=1e-4)
    assert len(measured(project, "kl_of_dimension")) == model.groups[0]


def test_the_history_is_that_of_the_average(project, model, image_set):
    checkpoint = torch.load(project.path("06_models", "cl", "vae_epoch_001.pt"))
    assert checkpoint["trained_state"].keys() == checkpoint["model_state"].keys()
    images, _ = binarise(image_set["images"], 0)
    losses = average_terms(model, Elbo(), images, image_set["labels"])
    assert checkpoint["history"][0]["test_loss"] == pytest.approx(losses.loss, rel=1e-5)


def drawn(project, *names):
    with Image.open(project.path("08_reporting", "cl", *names)) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).astype(int)


def page(project, title, images, labels):
    """A page of the report, from its words and its images."""
    checkpoint = read_checkpoint(project.path("06_models", "cl", "vae_epoch_001.pt"))
    caption = Caption.of(title, "cl", checkpoint.dataset, checkpoint.history[-1])
    return np.asarray(traversal_grid(images, labels, caption)).astype(int)


def test_samples_have_a_row_a_class(project, model):
    images = sample(model, 30, labels=torch.arange(10).repeat_interleave(3), seed=0)
    expected = page(project, "Samples of each class (pixel means)", images, [str(label) for label in range(10)])
    assert abs(drawn(project, "samples.png") - expected).max() <= 1


def test_a_traversal_says_which_group_and_which_class(project, model, image_set):
    means, kl, _ = posterior_statistics(model, image_set["images"], image_set["labels"])
    dimensions = kl[: model.groups[0]].argsort(descending=True)[:2].tolist()
    values, label = torch.linspace(-3, 3, 11), int(image_set["labels"][0])
    images = traverse(model, means[:1], dimensions, values, labels=label)
    title = f"The most active dimensions of the top group of latents, from -3 to 3, given class {label}"
    names = [f"z{dimension}\n{kl[dimension]:.2f} nats" for dimension in dimensions]
    assert abs(drawn(project, "traversal.png") - page(project, title, images, names)).max() <= 1


def test_interpolations_say_which_group_and_which_class(project, model, image_set):
    shown = [image_set["labels"].tolist().index(label) for label in (0, 1)]
    images = as_pixels(image_set["images"][shown])
    codes, _ = encode(model, images, image_set["labels"][shown])
    path = interpolate(model, codes[0], codes[1], 10, labels=0)
    title = "From one image to another, given the class of the first, by the top group of latents"
    checkpoint = read_checkpoint(project.path("06_models", "cl", "vae_epoch_001.pt"))
    caption = Caption.of(title, "cl", checkpoint.dataset, checkpoint.history[-1])
    expected = interpolation_strips([torch.cat([images[:1], path, images[1:]])], caption)
    assert abs(drawn(project, "interpolations.png") - np.asarray(expected).astype(int)).max() <= 1


def test_bits_per_dimension_count_every_colour(project):
    levels = {"run": "levels", "model__likelihood": "discretised_logistic", "train__epochs": 1}
    assert project.invoke("--pipelines=train,evaluate", **levels).exit_code == 0
    content = json.loads(project.path("07_model_output", "levels", "metrics.json").read_text(encoding="utf-8"))
    found = {(each["name"], each["settings"].get("of")): each["value"] for each in content}
    bits = found["bits_per_dimension", "neg_elbo"]
    assert bits == pytest.approx(found["neg_elbo", None] / (3 * 32 * 32 * math.log(2)), rel=1e-9)


def test_latent_measures_say_which_groups(project):
    (active,) = measured(project, "active_units")
    assert active.data == "posteriors of 1,000 test images, not binarised, all groups of latents"
    top = "posteriors of 1,000 test images, not binarised, top group of latents, to N(0, I)"
    assert measured(project, "kl_of_dimension")[0].data == top


def test_the_report_shows_what_each_group_does(project, model):
    folder = project.path("08_reporting", "cl", "groups")
    assert sorted(path.name for path in folder.iterdir()) == ["one_changes.png", "top_changes.png", "top_stays.png"]
    generator, rest = torch.Generator().manual_seed(0), model.latent_dim - model.groups[0]
    with torch.no_grad():
        tops = model.prior_now().draw(3, generator)
    noises = torch.randn(3, rest, generator=generator)
    rows, columns = [0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2] * 3
    one = [tops[[0, 1, 2]], *[tops[[0, 0, 0]]] * 3]
    starts = [0, *accumulate(model.groups[1:])]
    changed = [noises[:1].repeat(3, 1) for _ in range(4)]
    for group, (start, end) in enumerate(pairwise(starts), start=1):
        changed[group][:, start:end] = noises[:, start:end]
    names = [f"group {number}\n{size} latents" for number, size in enumerate(model.groups, start=1)]
    stays = "Same top group in a row, groups below drawn anew, class 0"
    changes = "Same groups below in a row, top group drawn anew, class 0"
    only = "One group drawn anew, the noise of the others kept, class 0"
    for name, title, labels, top, noise in (
        ("top_stays", stays, ["1", "2", "3"], tops[rows], noises[columns]),
        ("top_changes", changes, ["1", "2", "3"], tops[columns], noises[rows]),
        ("one_changes", only, names, torch.cat(one), torch.cat(changed)),
    ):
        classes = torch.zeros(len(top), dtype=torch.int64)
        images = decode(model, complete(model, top, noise, classes), classes)
        assert abs(drawn(project, "groups", f"{name}.png") - page(project, title, images, labels)).max() <= 1, name


def test_a_model_with_one_group_has_no_such_pictures(finished):
    assert not finished.path("08_reporting", "default", "groups").exists()


def test_colours_are_not_called_grey(project):
    shutil.copytree(project.path("06_models", "cl"), project.path("06_models", "whole"))
    whole = {"run": "whole", "evaluate__binarisation": "none"}
    assert project.invoke("--pipelines=evaluate", **(CHOICES | whole)).exit_code == 0
    content = json.loads(project.path("07_model_output", "whole", "metrics.json").read_text(encoding="utf-8"))
    (bound,) = [Measured(**each) for each in content if each["name"] == "importance_weighted_nll"]
    assert bound.data.endswith("in colour: 1,000 test images given their labels, colour pixels as Bernoulli means")
