"""The presets of conf/."""

import pytest
import torch
from omegaconf import OmegaConf

from vae_mnist.config.check import problems_in
from vae_mnist.config.parameters import Parameters
from vae_mnist.models import build_model

from ..helpers.project import ROOT

PRESETS = sorted(
    path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name not in ("base", "local")
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_has_a_run_of_its_name(parameters, name):
    files = sorted((ROOT / "conf" / name).glob("parameters_*.yml"))
    changes = OmegaConf.merge(*map(OmegaConf.load, files))
    whole = OmegaConf.merge(parameters, changes, OmegaConf.load(ROOT / "conf" / name / "globals.yml"))
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
