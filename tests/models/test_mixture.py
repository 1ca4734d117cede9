"""Mixtures as priors: densities that integrate to one, draws that follow them."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vae_mnist.config.model import MixtureConfig, VampConfig
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.mixture import MixturePrior, VampPrior
from vae_mnist.models.priors import GaussianMixture

from ..helpers.models import disturbed, noise, small

GENERATOR = torch.Generator().manual_seed(1)


def mixture(components=3, latent_dim=2):
    """Any weights, means and variances."""
    mean, logvar = (torch.randn(components, latent_dim, generator=GENERATOR) for _ in range(2))
    log_weights = torch.log_softmax(torch.randn(components, generator=GENERATOR), dim=0)
    return GaussianMixture(log_weights, DiagonalGaussian(mean, logvar))


def of_torch(mixed):
    mean, logvar = mixed.components
    each = Independent(Normal(mean, torch.exp(0.5 * logvar)), 1)
    return MixtureSameFamily(Categorical(logits=mixed.log_weights), each)


def test_the_density_is_that_of_torch_distributions():
    mixed, z = mixture(), torch.randn(4, 5, 2, generator=GENERATOR)
    torch.testing.assert_close(mixed.log_prob(z), of_torch(mixed).log_prob(z))


def test_the_density_integrates_to_one():
    mixed = mixture()
    side = torch.linspace(-15, 15, 1501)
    density = mixed.log_prob(torch.cartesian_prod(side, side)).double().exp()
    assert (density.sum() * (side[1] - side[0]).double() ** 2).item() == pytest.approx(1.0, abs=1e-3)


def test_draws_follow_the_density():
    mixed = mixture()
    draws = mixed.draw(200_000, torch.Generator().manual_seed(0))
    expected = of_torch(mixed)
    torch.testing.assert_close(draws.mean(0), expected.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(draws.var(0), expected.variance, rtol=0.02, atol=0)


@pytest.mark.parametrize("logvar", [-1000.0, 1000.0])
def test_gradients_stay_finite_at_the_bound_of_the_log_variance(logvar):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        prior = MixturePrior(2, MixtureConfig(components=3))
        prior.logvars.fill_(logvar)
    density = prior.given(None).log_prob(torch.randn(5, 2, generator=GENERATOR))
    density.sum().backward()
    assert density.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in prior.parameters())


def test_a_temperature_scales_the_standard_deviation_of_each_component():
    mean, logvar = torch.tensor([[-50.0, 0.0], [50.0, 3.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
    mixed = GaussianMixture(torch.tensor([0.5, 0.5]).log(), DiagonalGaussian(mean, logvar))
    draws = mixed.draw(100_000, torch.Generator().manual_seed(0), temperature=0.5)
    for component, near in enumerate((draws[:, 0] < 0, draws[:, 0] > 0)):
        spread = torch.exp(0.5 * logvar[component])
        torch.testing.assert_close(draws[near].std(0), 0.5 * spread, rtol=0.02, atol=0)


def test_a_temperature_of_zero_draws_the_means():
    mixed = mixture()
    draws = mixed.draw(50, torch.Generator().manual_seed(0), temperature=0.0)
    assert torch.cdist(draws, mixed.components.mean).min(dim=1).values.max() < 1e-6


def test_the_learned_mixture_is_made_of_its_weights():
    with torch.random.fork_rng(devices=[]):
        prior = disturbed(MixturePrior(2, MixtureConfig(components=4)))
    found = prior.given(None)
    assert torch.equal(found.log_weights, torch.log_softmax(prior.logits, dim=0))
    assert torch.equal(found.components.mean, prior.means)
    found.log_prob(torch.zeros(3, 2)).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in prior.parameters())


@pytest.mark.parametrize("conditional", [False, True])
def test_a_vamp_prior_is_the_mean_of_the_posteriors_at_its_pseudo_inputs(conditional):
    """Public code subtracts log K in the wrong place."""
    model, z = (
        disturbed(small(prior="vamp", conditional=conditional), spread=0.1),
        torch.randn(6, 4, generator=GENERATOR),
    )
    inputs = model.prior.pseudo_inputs.clamp(0, 1)
    posteriors = model.encode(inputs, torch.arange(5) % 10)
    each = Independent(Normal(posteriors.mean, torch.exp(0.5 * posteriors.logvar)), 1)
    expected = each.log_prob(z[:, None]).exp().mean(1).log()
    torch.testing.assert_close(model.prior_now().log_prob(z), expected)


def test_samples_of_a_vamp_prior_come_from_the_posteriors_at_its_pseudo_inputs():
    """Public code draws from N(0, I)."""
    model = disturbed(small(prior="vamp"))
    with torch.no_grad():
        model.network.posterior.bias[4:] = -20.0  # points
        means = model.encode(model.prior.pseudo_inputs.clamp(0, 1)).mean
        draws = model.prior_now().draw(200, torch.Generator().manual_seed(0))
    nearest = torch.cdist(draws, means).min(dim=1)
    assert nearest.values.max() < 0.01  # cdist is not exact
    assert nearest.indices.unique().tolist() == list(range(5))


def test_gradients_reach_the_pseudo_inputs_and_the_encoder_through_the_density():
    model = small(prior="vamp")
    with torch.no_grad():
        model.prior.pseudo_inputs.clamp_(0.1, 0.9)
    model.prior_now().log_prob(torch.ones(1, 4)).sum().backward()
    assert model.prior.pseudo_inputs.grad.abs().sum() > 0
    assert model.network.posterior.weight.grad.abs().sum() > 0


def test_pseudo_inputs_start_as_training_images():
    with torch.random.fork_rng(devices=[]):
        prior = VampPrior(4, (1, 2, 2), VampConfig(pseudo_inputs=3))
    before = prior.pseudo_inputs.detach().clone()
    images = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8).expand(2, 1, 2, 2)
    prior.start_from(images)
    assert torch.equal(prior.pseudo_inputs[:2], images.float() / 255)
    assert torch.equal(prior.pseudo_inputs[2], before[2])


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_the_rate_is_estimated_from_the_samples(prior, images):
    model = small(prior=prior)
    result = model(images[:3], noise(model, 3, samples=7))
    assert result.kl is None
    expected = (result.posteriors[0].log_prob(result.z[0]) - model.prior_now().log_prob(result.z[0])).mean(0)
    torch.testing.assert_close(result.rate, expected)
