from itertools import permutations
from math import log

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vae_mnist.models import Pass
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.priors import StandardNormal
from vae_mnist.objectives import TotalCorrelation, total_correlation
from vae_mnist.objectives.total_correlation import aggregate_log_prob, stratified_weights

from ..helpers.models import noise, small

NOW = torch.tensor(0)


def gaussians(count, dims, seed=0):
    mean, logvar = torch.randn(2, count, dims, generator=torch.Generator().manual_seed(seed))
    return DiagonalGaussian(mean, logvar)


def result_of(posterior, seed=1):
    """A pass without a decoder."""
    eps = torch.randn(1, *posterior.mean.shape, generator=torch.Generator().manual_seed(seed))
    z = posterior.sample(eps)
    return Pass(z, z.square().sum(-1), (posterior,), (StandardNormal(z.shape[-1]),), (z,))


def test_each_weight_is_that_of_the_paper():
    """Public code writes 1/N into a column instead of the diagonal."""
    own, one, other = 1 / 10, (10 - 3) / (10 * 3), 1 / 3
    by_hand = [
        [own, one, other, other],
        [other, own, one, other],
        [other, other, own, one],
        [one, other, other, own],
    ]
    torch.testing.assert_close(stratified_weights(4, 10), torch.tensor(by_hand))
    torch.testing.assert_close(stratified_weights(2, 7), torch.tensor([[1 / 7, 6 / 7], [6 / 7, 1 / 7]]))


@pytest.mark.parametrize("row", range(3))
def test_the_density_of_a_code_is_estimated_without_bias(row):
    """Averaged over every batch of 3 out of 6 images in which a code's own stands in a row."""
    densities = torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batches = [batch for batch in permutations(range(6), 3) if batch[row] == 4]
    weights = stratified_weights(3, 6).double()
    estimates = torch.stack([weights[row] @ densities[list(batch)] for batch in batches])
    assert estimates.mean().item() == pytest.approx(densities.mean().item(), rel=1e-6)
    assert estimates.std() > 0.01


@pytest.mark.parametrize(("size", "count"), [(1, 10), (1, 1), (2, 2), (5, 5), (5, 3), (100, 60_000)])
def test_the_weights_of_a_code_are_positive_and_add_up_to_one(size, count):
    weights = stratified_weights(size, count)
    assert weights.shape == (size, size)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(size))


@pytest.mark.parametrize("at_once", [2**20, 50, 1])
def test_the_densities_are_those_of_a_mixture(monkeypatch, at_once):
    monkeypatch.setattr(total_correlation, "_AT_ONCE", at_once)
    posterior, z = gaussians(7, 3), torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    weights = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)).log_softmax(1)
    joint, single = aggregate_log_prob(z, posterior, weights)
    spread = torch.exp(0.5 * posterior.logvar)
    for code, (log_weights, found_joint, found_single) in zip(z, zip(weights, joint, single, strict=True), strict=True):
        chosen = Categorical(logits=log_weights)
        whole = MixtureSameFamily(chosen, Independent(Normal(posterior.mean, spread), 1))
        torch.testing.assert_close(found_joint, whole.log_prob(code))
        for dim in range(3):
            one = MixtureSameFamily(chosen, Normal(posterior.mean[:, dim], spread[:, dim]))
            torch.testing.assert_close(found_single[dim], one.log_prob(code[dim]))


def test_with_beta_one_the_loss_is_the_negative_elbo_of_one_sample(images):
    model = small()
    result = model(images, noise(model, 100))
    estimate = (result.log_q - result.log_p).sum(-1)[0]
    terms = TotalCorrelation(1.0, 450)(result, NOW)
    torch.testing.assert_close(terms.loss, terms.distortion + estimate)
    torch.testing.assert_close(sum(terms.extra.values()), estimate, rtol=1e-4, atol=1e-4)
    assert list(terms.extra) == ["mutual_information", "total_correlation", "dimension_wise_kl"]
    assert torch.equal(terms.rate, result.rate)


def test_beta_weighs_the_total_correlation_alone(images):
    model = small()
    result = model(images, noise(model, 100))
    one, many = (TotalCorrelation(beta, 450)(result, NOW) for beta in (1.0, 6.0))
    torch.testing.assert_close(many.loss, one.loss + 5 * one.extra["total_correlation"])
    assert TotalCorrelation(6.0, 450).beta_at(NOW) == 6.0


def test_codes_that_say_nothing_have_no_mutual_information_and_no_total_correlation():
    same = DiagonalGaussian(torch.ones(50, 3), torch.zeros(50, 3))
    extra = TotalCorrelation(1.0, 450)(result_of(same), NOW).extra
    zeros = torch.zeros(50)
    torch.testing.assert_close(extra["mutual_information"], zeros, atol=1e-5, rtol=0)
    torch.testing.assert_close(extra["total_correlation"], zeros, atol=1e-5, rtol=0)
    assert extra["dimension_wise_kl"].mean() == pytest.approx(1.5, abs=0.6), "half a nat for a mean of 1"


def test_codes_far_apart_tell_the_image_and_each_dimension_repeats_it():
    """Every code is of one image for sure: log N nats, which each of the three dimensions carries."""
    apart = DiagonalGaussian(1000.0 * torch.arange(50)[:, None].expand(50, 3), torch.zeros(50, 3))
    extra = TotalCorrelation(1.0, 450)(result_of(apart), NOW).extra
    torch.testing.assert_close(extra["mutual_information"], torch.full((50,), log(450)), rtol=1e-3, atol=0)
    torch.testing.assert_close(extra["total_correlation"], torch.full((50,), 2 * log(450)), rtol=1e-3, atol=0)


def test_a_batch_of_one_image_has_the_loss_of_the_elbo(images):
    model = small()
    result = model(images[:1], noise(model, 1))
    terms = TotalCorrelation(9.0, 450)(result, NOW)
    torch.testing.assert_close(terms.loss, terms.distortion + (result.log_q - result.log_p).sum(-1)[0])
