import torch
from torch.distributions import Normal, kl_divergence

from vae_mnist.models.gaussian import DiagonalGaussian

GENERATOR = torch.Generator().manual_seed(1)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def test_gradients_flow_through_samples():
    mean, logvar = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    noise = random(5, 2, 3)
    DiagonalGaussian(mean, logvar).sample(noise).sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((2, 3), 5.0))
    torch.testing.assert_close(logvar.grad, 0.5 * noise.sum(0))


def test_log_density_is_that_of_torch_distributions():
    mean, logvar, z = random(6, 5), random(6, 5), random(3, 6, 5)
    expected = Normal(mean, torch.exp(0.5 * logvar)).log_prob(z).sum(-1)
    torch.testing.assert_close(DiagonalGaussian(mean, logvar).log_prob(z), expected)


def test_kl_is_that_of_torch_distributions_and_never_negative():
    mean, logvar = random(1000, 8), 3 * random(1000, 8)
    kl = DiagonalGaussian(mean, logvar).kl_to_standard()
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0))
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-5)
    assert (kl.sum(1) >= 0).all()
