"""One step's loss."""

import torch

from vae_mnist.objectives import build_objective
from vae_mnist.training.batches import Batch
from vae_mnist.training.machine import resolve_precision
from vae_mnist.training.step import Step

from ..helpers.compare import same
from ..helpers.models import objective_config, small


def test_a_step_gives_the_terms_of_its_model_and_objective(splits):
    plain = Step(
        small(), build_objective(objective_config(beta=4.0), 450, 4), resolve_precision("float32", torch.device("cpu"))
    )
    image_set, now = splits["train"], torch.tensor(0)
    noise = torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(0))
    images = image_set["images"][:100].float() / 255
    expected = plain.objective(plain.model(images, noise), now)
    assert same(list(plain(Batch(images, image_set["labels"][:100], noise, 100), now)), list(expected))
