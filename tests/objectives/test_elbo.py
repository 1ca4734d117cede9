import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.objectives import Elbo

from ..helpers.models import KINDS, disturbed, noise, small

NOW = torch.tensor(0)


@pytest.fixture
def result(images):
    model = small()
    return model(images, noise(model, 100))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_loss_is_distortion_and_beta_times_rate(kind, images):
    model = small(**kind)
    result = model(images, noise(model, 100))
    terms = Elbo(beta=4.0)(result, NOW)
    assert torch.equal(terms.distortion, result.nll[0])
    torch.testing.assert_close(terms.loss, terms.distortion + 4 * terms.rate)
    torch.testing.assert_close(Elbo()(result, NOW).loss, terms.distortion + terms.rate)
    assert (terms.loss > 0).all(), "the negative bound is positive, the bound itself would not be"


def test_the_rate_is_the_kl_summed_over_dimensions(result):
    mean, logvar = result.posteriors[0]
    by_hand = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1)
    torch.testing.assert_close(Elbo()(result, NOW).rate, by_hand)


def test_the_weight_of_the_rate_rises_linearly_to_beta_and_stays_there(result):
    objective = Elbo(beta=4.0, kl_warmup_steps=10)
    for step, weight in ((0, 0.0), (5, 2.0), (10, 4.0), (1000, 4.0)):
        terms = objective(result, torch.tensor(step))
        torch.testing.assert_close(terms.loss, terms.distortion + weight * result.kl.sum(1))
        assert float(objective.beta_at(torch.tensor(step))) == weight
        assert torch.equal(terms.rate, result.rate), "the rate that is logged is not weighted"


def test_free_bits_count_each_dimension_of_each_image_as_at_least_so_many(result):
    middle = result.kl.median().item()
    terms = Elbo(beta=2.0, free_bits=middle)(result, NOW)
    by_hand = torch.stack([sum(torch.tensor(max(kl, middle)) for kl in image) for image in result.kl.tolist()])
    torch.testing.assert_close(terms.loss, terms.distortion + 2 * by_hand)
    assert torch.equal(terms.rate, result.rate)


def test_dimensions_within_their_free_bits_have_no_gradient():
    model = small()
    result = model(torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)), noise(model, 20))
    terms = Elbo(free_bits=result.kl.median().item())(result, NOW)
    (gradient,) = torch.autograd.grad((terms.loss - terms.distortion).sum(), result.posteriors[0].mean)
    assert torch.equal(gradient != 0, result.kl > result.kl.median())


def test_free_bits_count_each_group_of_several(images):
    model = disturbed(small(network="ladder", prior="flow"), spread=0.2)
    result = model(images, noise(model, 100))
    rates = torch.stack(result.rates, dim=1)  # (B, G)
    terms = Elbo(free_bits=rates.median().item())(result, NOW)
    torch.testing.assert_close(terms.loss, terms.distortion + rates.clamp(min=rates.median().item()).sum(1))


def test_free_bits_can_end(result):
    objective, always = Elbo(free_bits=0.5, free_bits_steps=10), Elbo(free_bits=0.5)
    for step, same in ((0, always), (9, always), (10, Elbo()), (99, Elbo())):
        torch.testing.assert_close(objective(result, torch.tensor(step)).loss, same(result, NOW).loss)
    assert not torch.allclose(always(result, NOW).loss, Elbo()(result, NOW).loss)


def test_free_bits_are_refused_where_the_kl_has_no_closed_form(images):
    model = small(prior="flow")
    with pytest.raises(ConfigError, match="free bits expect a prior whose KL has a closed form"):
        Elbo(free_bits=0.1)(model(images, noise(model, 100)), NOW)


def test_the_rate_of_each_image_is_pulled_to_a_capacity_that_rises(result):
    objective = Elbo(capacity=8.0, capacity_gamma=3.0, capacity_steps=4)
    for step, capacity in ((0, 0.0), (1, 2.0), (4, 8.0), (9, 8.0)):
        terms = objective(result, torch.tensor(step))
        torch.testing.assert_close(terms.loss, terms.distortion + 3 * (result.rate - capacity).abs())
    assert objective.beta_at(NOW) == 3.0


def test_a_capacity_that_does_not_rise_is_there_from_the_start(result):
    terms = Elbo(capacity=8.0, capacity_gamma=3.0)(result, NOW)
    torch.testing.assert_close(terms.loss, terms.distortion + 3 * (result.rate - 8).abs())
