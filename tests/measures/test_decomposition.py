import math

import pytest
import torch

from vae_mnist.errors import InputError
from vae_mnist.measures.decomposition import decompose_rate, parts_of_rate
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.priors import StandardNormal

from ..helpers.models import disturbed, small


@pytest.fixture
def model():
    return disturbed(small(), spread=0.1).eval()


def codes(mean, seed=1):
    """One code of each of N(mean, 1)."""
    posterior = DiagonalGaussian(mean, torch.zeros_like(mean))
    noise = torch.randn(1, *mean.shape, generator=torch.Generator().manual_seed(seed))
    return posterior, posterior.sample(noise)[0]


def test_the_parts_add_up_to_the_rate_of_the_same_codes(model, images):
    posterior = model.encode(images)
    z = posterior.sample(torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(7)))[0]
    parts = decompose_rate(model, images, seed=7)
    estimate = (posterior.log_prob(z) - model.prior.log_prob(z)).mean().item()
    assert sum(part.mean for part in parts) == pytest.approx(estimate, rel=1e-5)
    assert estimate == pytest.approx(posterior.kl_to_standard().sum(1).mean().item(), abs=0.5)
    assert estimate > 0.1


def test_the_mixture_is_of_all_posteriors(monkeypatch, model, images):
    expected = decompose_rate(model, images, seed=0)
    monkeypatch.setattr("vae_mnist.measures.decomposition.BATCH_SIZE", 30)
    monkeypatch.setattr("vae_mnist.objectives.total_correlation._AT_ONCE", 1000)
    for one, other in zip(decompose_rate(model, images, seed=0), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_a_gaussian_aggregate_has_the_known_parts():
    """Means from N(0, R - I) and posteriors of variance 1: q(z) is N(0, R), whose parts are known."""
    variance, r = 4.0, 0.7
    covariance = torch.tensor([[variance, r * variance], [r * variance, variance]])
    scale = torch.linalg.cholesky(covariance - torch.eye(2))
    means = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) @ scale.T
    information, correlation, dimensions = (
        part.mean().item() for part in parts_of_rate(StandardNormal(2), *codes(means))
    )
    assert information == pytest.approx(0.5 * torch.logdet(covariance).item(), abs=0.05)
    assert correlation == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.05)
    assert dimensions == pytest.approx(variance - 1 - math.log(variance), abs=0.1)


def test_codes_far_apart_tell_which_image_they_are_of():
    posterior, z = codes(1000.0 * torch.arange(50.0)[:, None].expand(50, 3))
    parts = parts_of_rate(StandardNormal(3), posterior, z)
    torch.testing.assert_close(parts.mutual_information, torch.full((50,), math.log(50)), rtol=1e-5, atol=1e-4)


def test_standard_errors_shrink_with_the_number_of_images(model, sample_images):
    few, many = (decompose_rate(model, sample_images[1]["images"][:count], seed=0) for count in (60, 960))
    for one, other in zip(few, many, strict=True):
        assert 0 < other.standard_error < one.standard_error
    assert [part.standard_error for part in decompose_rate(model, sample_images[1]["images"][:1], seed=0)] == [0] * 3


def test_several_groups_are_refused(images):
    with pytest.raises(InputError, match=r"expected a model with one group of latents, got 4"):
        decompose_rate(small(network="ladder"), images, seed=0)


def test_another_prior_is_refused(images):
    with pytest.raises(InputError, match=r"expected a model with the prior N\(0, I\), got FlowPrior"):
        decompose_rate(small(prior="flow"), images, seed=0)
