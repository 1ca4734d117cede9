"""The presets of conf/."""

import pytest
from omegaconf import OmegaConf

from vae_mnist.config.check import problems_in

from ..helpers.project import ROOT

PRESETS = sorted(
    path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name not in ("base", "local")
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_has_a_run_of_its_name(parameters, name):
    files = sorted((ROOT / "conf" / name).glob("parameters_*.yml"))
    changes = OmegaConf.merge(*map(OmegaConf.load, files))
    whole = OmegaConf.merge(parameters, changes, OmegaConf.load(ROOT / "conf" / name / "globals.yml"))
    assert problems_in(OmegaConf.to_container(whole)) == []
    assert whole["run"] == name
