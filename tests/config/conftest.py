import pytest
from omegaconf import OmegaConf

from vae_mnist.config.parameters import GROUPS

from ..helpers.project import ROOT


@pytest.fixture
def parameters():
    """The parameters of conf/base, as Kedro reads them."""
    merged = {"run": "default"}
    for group in GROUPS:
        merged |= OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "base" / f"parameters_{group}.yml"))
    return merged
