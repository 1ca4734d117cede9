import torch

from vae_mnist.measures.distances import moments_of
from vae_mnist.measures.latents import active_units, aggregate_moments, posterior_statistics, prior_moments
from vae_mnist.models.gaussian import DiagonalGaussian

from ..helpers.models import disturbed, small


def test_active_units_count_dimensions_whose_mean_varies():
    means = torch.zeros(1000, 4)
    means[:, 1] = torch.linspace(-1, 1, 1000)
    means[:, 2] = 5.0  # far from the prior, but the same for every image
    means[::2, 3] = 0.19  # variance 0.009
    assert active_units(means) == 1
    assert active_units(torch.tensor([[0.09], [-0.09]])) == 0  # variance 0.0081; 0.0162 with Bessel's correction


def test_posterior_statistics_agree_with_one_pass(images):
    model = small()
    means, kl, variances = posterior_statistics(model, images, batch_size=33)
    with torch.no_grad():
        mean, logvar = model.encode(images)
    torch.testing.assert_close(means, mean)
    expected = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0).double()
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(variances, logvar.double().exp().mean(0), rtol=1e-5, atol=0)


def test_means_keep_no_larger_tensor_alive(images):
    """A view of the encoder's output would keep the log-variances as well."""
    means = posterior_statistics(small(), images, batch_size=10).means
    assert means.untyped_storage().nbytes() == means.numel() * 4


def test_the_aggregate_posterior_has_the_moments_of_codes_drawn_from_all_posteriors():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(50, 3, generator=generator) @ torch.tensor([[1.0, 0.9, 0], [0, 0.1, 0], [0, 0, 1.0]])
    logvar = torch.randn(50, 3, generator=generator)
    aggregate = aggregate_moments(means, logvar.exp().mean(0))
    noise = torch.randn(40_000, 50, 3, generator=generator)
    drawn = moments_of(DiagonalGaussian(means, logvar).sample(noise).flatten(0, 1))
    torch.testing.assert_close(aggregate.mean, drawn.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(aggregate.covariance, drawn.covariance, rtol=0, atol=0.02)


def test_moments_of_a_standard_normal_prior_are_exact():
    mean, covariance = prior_moments(small())
    assert torch.equal(mean, torch.zeros(4, dtype=torch.float64))
    assert torch.equal(covariance, torch.eye(4, dtype=torch.float64))


def test_moments_of_a_mixture_are_those_of_its_components():
    model = disturbed(small(prior="mixture"), spread=1.0)
    mixture = model.prior_now()
    weights = mixture.log_weights.detach().double().exp()
    means, variances = mixture.components.mean.detach().double(), mixture.components.logvar.detach().double().exp()
    mean = weights @ means
    covariance = (weights[:, None] * means).T @ means + (weights @ variances).diag() - mean[:, None] * mean
    found = prior_moments(model)
    size = covariance.diagonal().max().item()
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=0.05 * size**0.5)
    torch.testing.assert_close(found.covariance, covariance, rtol=0, atol=0.1 * size)
