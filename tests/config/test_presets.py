"""The presets of conf/."""

import pytest
import torch
from omegaconf import OmegaConf

from vae_mnist import reconstruct
from vae_mnist.config.check import problems_in
from vae_mnist.config.parameters import Parameters
from vae_mnist.datasets.sample import read_sample
from vae_mnist.models import build_model
from vae_mnist.pipelines.ingest.nodes import split_images
from vae_mnist.training.loop import train
from vae_mnist.training.machine import resolve_machine
from vae_mnist.training.state import start

from ..helpers.project import ROOT
from ..helpers.training import first

PRESETS = sorted(
    path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name not in ("base", "local")
)


def preset(parameters, name):
    """All parameters with this preset, as its user gets them."""
    files = sorted((ROOT / "conf" / name).glob("parameters_*.yml"))
    changes = OmegaConf.merge(*map(OmegaConf.load, files))
    return OmegaConf.merge(parameters, changes, OmegaConf.load(ROOT / "conf" / name / "globals.yml"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_has_a_run_of_its_name(parameters, name):
    whole = preset(parameters, name)
    values = OmegaConf.to_container(whole)
    assert problems_in(values) == []
    assert whole["run"] == name
    config = Parameters(**values)
    shape = (config.ingest.channels, config.ingest.image_size, config.ingest.image_size)
    with torch.device("meta"):
        model = build_model(config.model, shape, classes=10)
        images, labels = torch.rand(2, *shape), torch.zeros(2, dtype=torch.int64)
        result = model(images, torch.randn(1, 2, model.noise_dim), labels)
    assert result.nll.shape == (1, 2)
    assert model.image_shape == shape


@pytest.mark.slow
def test_colour64_learns_the_colours(parameters, sample_images):
    """From 2,000 images of half the size: reconstructions of other images have their colours."""
    shorter = {"train": {"epochs": 4, "batch_size": 32, "warmup_steps": 50, "average": "none", "threads": 1}}
    config = Parameters(**OmegaConf.to_container(OmegaConf.merge(preset(parameters, "colour64"), shorter)))
    raw = read_sample()._replace(train=first(sample_images[0], 2000), test=first(sample_images[1], 200))
    train_images, _, test_images, _ = split_images(raw, config.ingest.model_copy(update={"image_size": 32}))
    machine = resolve_machine(config.train)
    state = start(config.model, config.objective, config.train, train_images["images"], 10, machine)
    *_, state = train(state, {"train": train_images, "test": test_images}, config.train, machine)
    images = test_images["images"].float() / 255
    hues = [(each - each.mean(1, keepdim=True)).flatten() for each in (images, reconstruct(state.evaluated, images))]
    assert torch.corrcoef(torch.stack(hues))[0, 1] > 0.5  # it is 0.79, and 0.08 with model.network=residual
