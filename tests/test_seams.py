"""A new network costs what CONTRIBUTING says: one file, one case, one parameter group."""

import re

import torch

from vae_mnist.storage.checkpoints import read_checkpoint

from .helpers.project import ROOT, as_params

NETWORK = '''"""A network of one layer a side."""

from math import prod

from torch import nn

from .network import EncoderDecoder


class Toy(EncoderDecoder):
    def __init__(self, shapes, config):
        super().__init__()
        self.posterior = nn.Sequential(nn.Flatten(), nn.Linear(prod(shapes.inputs), 2 * shapes.latent_dim))
        self.scale = config.scale
        self.last = nn.Linear(shapes.code_dim, prod(shapes.outputs))
        self.shape = shapes.outputs

    def encode(self, images):
        return self.posterior(images) * self.scale

    def decode(self, code):
        return self.last(code).unflatten(1, self.shape)

    def start_at(self, outputs):
        self.last.bias.data.copy_(outputs.flatten())
'''

# place -> (what stands there, what is put before it)
CHANGES = {
    "src/vae_mnist/models/build.py": [
        ("from .vae import VAE", "from .toy import Toy\n"),
        (
            "        case _:\n            assert_never(config.network)",
            '        case "toy":\n            return Toy(shapes, config.toy)\n',
        ),
    ],
    "src/vae_mnist/config/model.py": [
        ("class ModelConfig(", "class ToyConfig(ParameterGroup):\n    scale: float\n\n\n"),
        ('"mlp", "conv", "residual", "ladder"]', '"toy", '),
        ("    prior: Literal[", "    toy: ToyConfig\n"),
    ],
    "conf/base/parameters_model.yml": [("  prior: normal", "  toy:\n    scale: 0.5\n")],
}


def test_a_network_is_added_through_the_places_that_contributing_names(project):
    (row,) = (line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| a network |"))
    named = set(re.findall(r"`((?:src|conf)/[\w/.]+)`", row))
    assert named == {"src/vae_mnist/models/network.py", *CHANGES}
    (project.root / "src/vae_mnist/models/toy.py").write_text(NETWORK)
    for name, changes in CHANGES.items():
        text = (project.root / name).read_text()
        for place, new in changes:
            assert text.count(place) == 1, place
            text = text.replace(place, new + place)
        (project.root / name).write_text(text)
    params = as_params(model__network="toy", model__toy__scale=0.25, model__prior="flow", objective__name="iwae")
    result = project.kedro("run", params)
    assert result.returncode == 0, result.stdout + result.stderr
    again = project.kedro("run", "--pipelines=train", params.replace("train.epochs=2", "train.epochs=3"))
    assert again.returncode == 0, again.stdout + again.stderr
    checkpoint = read_checkpoint(project.path("06_models", "default", "vae_epoch_003.pt"))
    assert checkpoint.settings["model.toy.scale"] == 0.25
    assert checkpoint.model_state["network.last.weight"].shape == torch.Size([784, 4])
    assert "model.mlp.hidden_dim" not in checkpoint.settings
    refused = project.kedro("run", params.replace("toy.scale", "toy.scael"))
    assert "model.toy.scael: no such parameter. Did you mean 'model.toy.scale'?" in refused.stderr
