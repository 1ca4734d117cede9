"""Priors: densities that integrate to one, draws that follow them."""

from math import pi

import pytest
import torch
from torch.distributions import Normal

from vae_mnist.config.model import FlowConfig
from vae_mnist.errors import ConfigError
from vae_mnist.models.flow import FlowPrior, _unshuffled
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.priors import StandardNormal

from ..helpers.models import disturbed

GENERATOR = torch.Generator().manual_seed(1)


def flow(latent_dim, couplings=4):
    with torch.random.fork_rng(devices=[]):
        return FlowPrior(latent_dim, FlowConfig(couplings=couplings, hidden_dim=16))


def test_the_standard_normal_is_that_of_torch_distributions():
    z = torch.randn(3, 7, 5, generator=GENERATOR)
    torch.testing.assert_close(StandardNormal(5).log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_the_kl_to_the_standard_normal_is_the_gaussians_own():
    posterior = DiagonalGaussian(torch.ones(2, 3), torch.full((2, 3), 0.5))
    assert torch.equal(StandardNormal(3).kl(posterior), posterior.kl_to_standard())


def test_a_flow_starts_as_the_standard_normal():
    z = torch.randn(50, 5, generator=GENERATOR)
    torch.testing.assert_close(flow(5).log_prob(z), StandardNormal(5).log_prob(z))


@pytest.mark.parametrize("couplings", [1, 4])
def test_the_density_of_a_flow_integrates_to_one(couplings):
    """Over a square of two dimensions, by the rectangle rule."""
    prior = disturbed(flow(2, couplings))
    side = torch.linspace(-12, 12, 1201)
    points = torch.cartesian_prod(side, side)  # (N, 2)
    with torch.no_grad():
        density = prior.log_prob(points).double().exp()
    assert abs(density - StandardNormal(2).log_prob(points).double().exp()).max() > 0.01
    assert (density.sum() * (side[1] - side[0]).double() ** 2).item() == pytest.approx(1.0, abs=1e-3)


def test_draws_of_a_flow_follow_its_density():
    """The share of draws in each half-plane is the density's integral over it."""
    prior = disturbed(flow(2))
    side = torch.linspace(-12, 12, 1201)
    points = torch.cartesian_prod(side, side)
    with torch.no_grad():
        density = prior.log_prob(points).double().exp() * (side[1] - side[0]).double() ** 2
        draws = prior.draw(100_000, torch.Generator().manual_seed(0))
    for dimension in (0, 1):
        for bound in (-0.505, 0.495):
            expected = density[points[:, dimension] < bound].sum().item()
            found = (draws[:, dimension] < bound).double().mean().item()
            assert found == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("latent_dim", [2, 3, 8])
def test_the_density_of_a_draw_is_that_of_its_noise_and_the_jacobian(latent_dim):
    """log p(z) = log N(u) - log |det dz/du|, the determinant taken by automatic differentiation."""
    prior = disturbed(flow(latent_dim).double(), spread=0.2)

    def to_codes(u):
        for coupling in reversed(prior.couplings):
            u = _unshuffled(coupling.inverse(u))
        return u

    u = torch.randn(latent_dim, generator=GENERATOR).double()
    jacobian = torch.autograd.functional.jacobian(to_codes, u)
    expected = -0.5 * (u.square() + torch.tensor(2 * pi).log()).sum() - jacobian.slogdet()[1]
    with torch.no_grad():
        prior.float()
        found = prior.log_prob(to_codes(u.float()))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_every_dimension_of_a_flow_meets_every_other():
    prior = disturbed(flow(8, couplings=8), spread=0.5)
    z = torch.randn(8, generator=GENERATOR)
    hessian = torch.autograd.functional.hessian(prior.log_prob, z)
    assert (hessian.abs() > 1e-6).all()


def test_a_seed_names_the_draws():
    for prior in (StandardNormal(4), disturbed(flow(4))):
        with torch.no_grad():
            first, again, other = (prior.draw(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert first.shape == (3, 4)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_a_lower_temperature_narrows_the_noise_that_a_flow_turns_into_codes():
    prior = disturbed(flow(4))
    with torch.no_grad():
        codes = prior.draw(5, torch.Generator().manual_seed(0), temperature=0.5)
        noise = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        for coupling in reversed(prior.couplings):
            noise = _unshuffled(coupling.inverse(0.5 * noise if coupling is prior.couplings[-1] else noise))
    torch.testing.assert_close(codes, noise)


def test_a_flow_is_computed_in_float32_under_autocast():
    prior, z = disturbed(flow(4)), torch.randn(5, 4, generator=GENERATOR)
    with torch.autocast("cpu", torch.bfloat16):
        half = prior.log_prob(z)
    assert torch.equal(half, prior.log_prob(z))


def test_one_latent_dimension_has_no_halves():
    with pytest.raises(ConfigError, match="latent_dim of at least 2, got 1"):
        flow(1)
