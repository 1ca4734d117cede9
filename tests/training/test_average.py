"""The moving average of the weights, and what uses it."""

import pytest
import torch

from vae_mnist.measures.bounds import average_terms
from vae_mnist.models import load_model, model_from_checkpoint
from vae_mnist.objectives import Elbo
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.state import restore, snapshot

from ..helpers.compare import same
from ..helpers.models import objective_config
from ..helpers.training import CARD, begin, config, epochs, run, settings


def by_hand(start, steps, decay):
    """The average after each step's weights, which begins with the untrained ones."""
    average = start
    for number, weights in enumerate(steps, start=1):
        keep = min(decay, (1 + number) / (10 + number))
        average = {name: keep * average[name] + (1 - keep) * weights[name] for name in average}
    return average


def weights_of(state):
    return {name: tensor.double().clone() for name, tensor in state.step.model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_the_average_is_that_of_the_weights_after_each_step(splits, monkeypatch, decay):
    """The decay of 0.2 holds from the third step on, that of 0.999 not within these ten."""
    cfg, steps, step = config(average=decay), [], torch.optim.AdamW.step
    state = begin(splits, cfg)
    start = weights_of(state)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (step(self), steps.append(weights_of(state))))
    *_, state = epochs(state, splits, cfg)
    assert len(steps) == 10
    for name, average in by_hand(start, steps, decay).items():
        torch.testing.assert_close(state.average.state_dict()[name].double(), average, rtol=1e-5, atol=1e-6)


def test_an_average_changes_what_is_measured_and_not_how_training_goes_on(splits, tmp_path):
    plain, averaged = run(splits, config())[-1], run(splits, config(average=0.9))[-1]
    assert same(averaged.trained_state, plain.model_state)
    assert plain.trained_state == {}
    assert not same(averaged.model_state, plain.model_state)
    losses = average_terms(model_from_checkpoint(averaged), Elbo(), splits["test"]["images"])
    assert averaged.history[-1]["test_loss"] == pytest.approx(losses.loss, rel=1e-6)
    assert averaged.history[-1]["train_loss"] == plain.history[-1]["train_loss"]
    write_checkpoint(averaged, tmp_path / "c.pt")
    assert same(dict(load_model(tmp_path / "c.pt").state_dict()), averaged.model_state)


def test_a_restored_average_takes_the_same_snapshot(splits, tmp_path):
    cfg = config(average=0.9, precision="float16")
    write_checkpoint(run(splits, cfg)[-1], tmp_path / "c.pt")
    checkpoint = read_checkpoint(tmp_path / "c.pt")
    state = restore(begin(splits, cfg, objective=objective_config()), checkpoint)
    assert same(snapshot(state, settings(cfg), CARD), checkpoint)
    assert not any(weight.requires_grad for weight in state.average.parameters())
