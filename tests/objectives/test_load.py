import pytest
import torch

from vae_mnist.errors import CheckpointError
from vae_mnist.objectives import Elbo, Factor, objective_from_checkpoint

from ..helpers.compare import same
from ..helpers.models import objective_config
from ..helpers.training import config, first, run


@pytest.fixture(scope="module")
def checkpoint(sample_images):
    splits = {"train": first(sample_images[0], 100), "test": first(sample_images[1], 20)}
    return run(splits, config(epochs=1), objective=objective_config(name="factor"))[0]


def test_the_objective_of_a_checkpoint_has_its_weights(checkpoint):
    objective = objective_from_checkpoint(checkpoint)
    assert isinstance(objective, Factor)
    assert same(dict(objective.state_dict()), checkpoint.objective_state)
    with torch.no_grad():
        next(objective.parameters()).zero_()
    assert not same(dict(objective.state_dict()), checkpoint.objective_state), "copies"


def test_an_objective_without_weights_is_built(checkpoint):
    plain = checkpoint.model_copy(update={"objective": objective_config(beta=2.0).model_dump(), "objective_state": {}})
    objective = objective_from_checkpoint(plain)
    assert isinstance(objective, Elbo)
    assert objective.beta == 2.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"name": "elbo"}}, "describes no objective"),
        ({"objective_state": {}}, "do not fit its objective"),
    ],
)
def test_what_does_not_fit_is_refused(checkpoint, changes, said):
    with pytest.raises(CheckpointError, match=said):
        objective_from_checkpoint(checkpoint.model_copy(update=changes))
