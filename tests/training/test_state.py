"""What training starts from, and what a checkpoint puts back."""

import threading

import torch

from vae_mnist.training.state import restore, snapshot

from ..helpers.compare import same
from ..helpers.models import model_config, objective_config
from ..helpers.training import CARD, begin, config, epochs, run, settings


def weights(splits, cfg):
    return dict(begin(splits, cfg).step.state_dict())


def test_initial_weights_follow_from_the_seed(splits):
    one, again, other = (weights(splits, config(seed=seed)) for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_threads_that_start_together_do_not_mix_up_their_seeds(splits):
    expected = {seed: weights(splits, config(seed=seed)) for seed in (0, 1)}
    found = []

    def build(seed):
        found.extend((seed, weights(splits, config(seed=seed))) for _ in range(20))

    threads = [threading.Thread(target=build, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(same(state, expected[seed]) for seed, state in found)


def test_pseudo_inputs_start_as_the_first_training_images(splits):
    state = begin(splits, config(), model_config(prior="vamp"))
    assert torch.equal(state.step.model.prior.pseudo_inputs, splits["train"]["images"][:5].float() / 255)


def test_adams_numbers_are_those_of_the_parameters(splits):
    state = begin(splits, config(adam_beta1=0.7, adam_beta2=0.98))
    assert state.optimizer.param_groups[0]["betas"] == (0.7, 0.98)


def test_the_decoder_can_begin_with_the_mean_picture_and_nothing_else_changes(splits):
    data, plain = weights(splits, config(output_bias="data")), weights(splits, config())
    mean = splits["train"]["images"].double().mean(0) / 255
    begin_with = torch.sigmoid(data.pop("model.network.decoder.2.bias")).view(1, 28, 28)
    torch.testing.assert_close(begin_with.double(), mean.clamp(1e-3, 1 - 1e-3), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, plain[name]) for name, value in data.items())


def test_a_snapshot_does_not_change_as_training_goes_on(splits):
    one, two = run(splits, config())
    assert not same(one.model_state, two.model_state)
    assert len(one.history) == 1


def test_a_snapshot_says_what_it_was_built_from(splits):
    checkpoint = run(splits, config(epochs=1), objective=objective_config(beta=2.0))[0]
    assert checkpoint.latent_dim == checkpoint.model["latent_dim"] == 4
    assert checkpoint.image_shape == [1, 28, 28]
    assert checkpoint.objective["beta"] == 2.0
    assert checkpoint.versions["torch"] == torch.__version__


def test_float16_keeps_the_state_of_its_gradient_scaler(splits):
    assert run(splits, config(epochs=1, precision="float16"))[0].scaler_state["scale"] > 0
    assert run(splits, config(epochs=1))[0].scaler_state == {}


def test_a_restored_state_takes_the_same_snapshot(splits):
    checkpoint = run(splits, config())[-1]
    state = restore(begin(splits, config()), checkpoint)
    assert same(snapshot(state, settings(config()), CARD), checkpoint)
    assert list(epochs(state, splits, config())) == []
