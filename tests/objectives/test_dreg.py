"""Against hand-computed gradients, and against the gradients of the plain importance-weighted bound."""

from math import exp, log, pi

import pytest
import torch

from vae_mnist.models import Pass
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.objectives import Dreg, Iwae

from ..helpers.models import KINDS, noise, small

NOW = torch.tensor(0)
MEAN, LOGVAR, SLOPE, CENTRE, IMAGE = 0.7, -0.4, 1.3, 0.2, 1.1


class Centred:
    """N(centre, 1), each code with a centre of its own."""

    def __init__(self, centre):
        self.centre = centre

    def log_prob(self, z):
        return -0.5 * ((z - self.centre).square() + log(2 * pi)).sum(-1)

    def kl(self, posterior):
        return None


def gradients(objective, noise):
    """Loss (B,) and its gradients by mean, log-variance, slope, centre: x ~ N(slope z, 1), one copy an image."""
    copies = noise.shape[1]
    leaves = [torch.full((copies, 1), value, requires_grad=True) for value in (MEAN, LOGVAR, SLOPE, CENTRE)]
    mean, logvar, slope, centre = leaves
    posterior = DiagonalGaussian(mean, logvar)
    z = posterior.sample(noise)
    nll = 0.5 * ((IMAGE - slope * z).square() + log(2 * pi)).sum(-1)
    loss = objective(Pass(z, nll, (posterior,), (Centred(centre),), (z,)), NOW).loss
    loss.sum().backward()
    return loss.detach(), [leaf.grad.squeeze(1) for leaf in leaves]


def draws(samples, copies):
    return torch.randn(samples, copies, 1, generator=torch.Generator().manual_seed(0))


def test_gradients_are_those_computed_by_hand():
    """Tucker et al. 2019, eq. 8, of two samples."""
    eps = [0.5, -1.2]
    sigma = exp(LOGVAR / 2)
    z = [MEAN + sigma * e for e in eps]
    # Terms without a constant, which every weight has.
    log_w = [-((IMAGE - SLOPE * v) ** 2) / 2 - (v - CENTRE) ** 2 / 2 + (v - MEAN) ** 2 / (2 * sigma**2) for v in z]
    total = sum(map(exp, log_w))
    w = [exp(value) / total for value in log_w]
    by_z = [-SLOPE * (IMAGE - SLOPE * v) + (v - CENTRE) - (v - MEAN) / sigma**2 for v in z]  # of -log w
    expected = [
        sum(a**2 * d for a, d in zip(w, by_z, strict=True)),
        sum(a**2 * d * sigma * e / 2 for a, d, e in zip(w, by_z, eps, strict=True)),
        sum(a * -v * (IMAGE - SLOPE * v) for a, v in zip(w, z, strict=True)),
        sum(a * -(v - CENTRE) for a, v in zip(w, z, strict=True)),
    ]
    _, found = gradients(Dreg(2), torch.tensor(eps).view(2, 1, 1))
    assert [gradient.item() for gradient in found] == pytest.approx(expected, rel=1e-5)


def test_the_expected_gradient_is_that_of_iwae_with_less_variance():
    copies, eps = 200_000, draws(8, 200_000)
    (loss, dreg), (plain_loss, plain) = (gradients(made(8), eps) for made in (Dreg, Iwae))
    torch.testing.assert_close(loss, plain_loss)
    for one, other in zip(dreg[:2], plain[:2], strict=True):  # of the posterior
        difference = (one - other).double()
        assert abs(difference.mean()) < 4 * difference.std() / copies**0.5
        assert one.var() < 0.5 * other.var()
    for one, other in zip(dreg[2:], plain[2:], strict=True):  # of decoder and prior
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.get("network") != "ladder"], ids=str)
def test_the_loss_and_the_gradients_of_decoder_and_prior_are_those_of_iwae(kind, images):
    found = []
    for made in (Dreg, Iwae):
        model = small(**kind)
        terms = made(3)(model(images, noise(model, 100, samples=3)), NOW)
        terms.loss.sum().backward()
        parts = {name: weight.grad for name, weight in model.named_parameters()}
        found.append((terms.loss.detach(), parts))
    (loss, dreg), (plain_loss, plain) = found
    torch.testing.assert_close(loss, plain_loss)
    for name, gradient in dreg.items():
        if "decoder" in name or "prior" in name:
            torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-3)
    assert any(not torch.allclose(gradient, plain[name], rtol=0.01) for name, gradient in dreg.items())


def test_a_pass_without_gradients_has_the_same_loss(images):
    model = small()
    eps = noise(model, 100, samples=3)
    with torch.inference_mode():
        measured = Dreg(3)(model(images, eps), NOW).loss
    assert torch.equal(measured.clone(), Dreg(3)(model(images, eps), NOW).loss)
