import pytest
import torch

from vae_mnist.objectives import Elbo

from ..helpers.models import KINDS, noise, small

NOW = torch.tensor(0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_loss_is_distortion_and_beta_times_rate(kind, images):
    model = small(**kind)
    result = model(images, noise(model, 100))
    terms = Elbo(beta=4.0)(result, NOW)
    assert torch.equal(terms.distortion, result.nll[0])
    torch.testing.assert_close(terms.loss, terms.distortion + 4 * terms.rate)
    torch.testing.assert_close(Elbo()(result, NOW).loss, terms.distortion + terms.rate)
    assert (terms.loss > 0).all(), "the negative bound is positive, the bound itself would not be"


def test_the_rate_is_the_kl_summed_over_dimensions(images):
    model = small()
    result = model(images, noise(model, 100))
    mean, logvar = result.posteriors[0]
    by_hand = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1)
    torch.testing.assert_close(Elbo()(result, NOW).rate, by_hand)
