import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vae_mnist import load_model, sample
from vae_mnist.pipelines.generate.nodes import draw_images, to_images

from ..helpers.project import Project
from ..helpers.records import card

CONDITIONAL = {"model__conditional": "true", "model__network": "residual", "model__residual__hidden_dim": 8}


@pytest.fixture(scope="module", autouse=True)
def trained(finished):
    """A run of this file's own, with the weights of the run 'default'."""
    assert finished.invoke("--pipelines=train", run="drawn").exit_code == 0


@pytest.fixture(scope="module")
def folder(finished, trained):
    result = finished.invoke("--pipelines=generate", run="drawn", generate__count=10, generate__seed=7)
    assert result.exit_code == 0, result.output
    assert "08_reporting/drawn/generated" in result.output
    return finished.path("08_reporting", "drawn", "generated")


def test_images_come_as_grid_as_pictures_and_as_tensors(folder):
    assert (folder / "grid.png").is_file()
    assert [path.name for path in sorted((folder / "images").iterdir())] == [f"image_{i:04d}.png" for i in range(1, 11)]
    tensors = load_file(folder / "images.safetensors")
    assert tensors["images"].shape == (10, 1, 28, 28)
    assert tensors["codes"].shape == (10, 4)


def test_pictures_and_tensors_hold_the_same_images(folder, checkpoint_path):
    tensors = load_file(folder / "images.safetensors")
    with Image.open(folder / "images" / "image_0003.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (28, 28)
    assert np.array_equal(pixels, (tensors["images"][2, 0] * 255).round().byte().numpy())
    expected = load_model(checkpoint_path).decode(tensors["codes"]).detach()
    torch.testing.assert_close(tensors["images"], expected)
    drawn = torch.randn(10, 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(tensors["codes"], drawn)


def test_colour_images_stay_in_colour():
    images = torch.rand(3, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    pictures = to_images({"images": images})
    pixels = np.asarray(pictures["image_0002"]())
    assert np.array_equal(pixels, (images[1] * 255).round().byte().permute(1, 2, 0).numpy())
    facts = {"dataset": card(), "row": {"epoch": 1, "test_loss": 1.0, "beta": 1.0}}
    facts |= {"drawn": "seed 0", "shown": "pixel means", "columns": 0}
    assert draw_images({"images": images}, facts, "r").mode == "RGB"


def test_a_named_checkpoint_is_used(finished, folder):
    newest = load_file(folder / "images.safetensors")["images"]
    result = finished.invoke(
        "--pipelines=generate", run="drawn", generate__count=10, generate__seed=7, generate__checkpoint="vae_epoch_001"
    )
    assert result.exit_code == 0
    assert not torch.equal(load_file(folder / "images.safetensors")["images"], newest)


def test_an_unknown_checkpoint_is_refused_with_those_there_are(finished):
    result = finished.invoke("--pipelines=generate", run="drawn", generate__checkpoint="vae_epoch_099")
    assert result.exit_code == 1
    assert "Error: generate.checkpoint: expected 'newest' or one of vae_epoch_001, vae_epoch_002" in result.output


def test_a_large_number_is_shown_in_part_and_fewer_images_leave_no_old_ones(finished):
    folder = finished.path("08_reporting", "drawn", "generated")
    for count in (500, 3):
        assert finished.invoke("--pipelines=generate", run="drawn", generate__count=count).exit_code == 0
        assert len(list((folder / "images").iterdir())) == count
        with Image.open(folder / "grid.png") as picture:
            assert picture.width < 3000


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A project with one epoch of a conditional model."""
    project = Project(tmp_path_factory.mktemp("conditional") / "project")
    result = project.invoke("--pipelines=ingest,train", run="cl", train__epochs=1, **CONDITIONAL)
    assert result.exit_code == 0, result.output
    return project


def test_a_class_can_be_asked_for(conditional):
    options = {"run": "cl", "generate__count": 12, **CONDITIONAL}
    path = conditional.path("08_reporting", "cl", "generated", "images.safetensors")
    found = {}
    for label in (7, "each"):
        result = conditional.invoke("--pipelines=generate", generate__label=label, **options)
        assert result.exit_code == 0, result.output
        found[label] = load_file(path)
    assert found[7]["labels"].tolist() == [7] * 12
    assert found["each"]["labels"].tolist() == [*range(10), 0, 1]
    model = load_model(conditional.path("06_models", "cl", "vae_epoch_001.pt"))
    torch.testing.assert_close(found[7]["images"], sample(model, 12, labels=7), rtol=1e-4, atol=1e-5)


def test_a_lower_temperature_draws_codes_nearer_to_the_mean(finished, folder):
    result = finished.invoke(
        "--pipelines=generate", run="drawn", generate__count=10, generate__seed=7, generate__temperature=0.5
    )
    assert result.exit_code == 0
    drawn = torch.randn(10, 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(load_file(folder / "images.safetensors")["codes"], 0.5 * drawn)


@pytest.mark.parametrize(("label", "message"), [("10", "expected 64 of 0 to 9"), ("5", "the model is not conditional")])
def test_a_class_that_the_model_has_not_is_refused(finished, conditional, label, message):
    project, options = (conditional, {"run": "cl", **CONDITIONAL}) if label == "10" else (finished, {"run": "drawn"})
    result = project.invoke("--pipelines=generate", generate__label=label, **options)
    assert result.exit_code == 1
    assert "Error: generate.label: " in result.output
    assert message in result.output
