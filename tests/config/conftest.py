import pytest
from omegaconf import OmegaConf

from ..helpers.project import ROOT


@pytest.fixture
def parameters():
    """All parameters of conf/base."""
    files = (ROOT / "conf" / "base").glob("parameters_*.yml")
    merged = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))
    return merged | {"data_root": "data", "run": "default"}
