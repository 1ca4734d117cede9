from math import log

import pytest
import torch

from vae_mnist.objectives import Elbo, Iwae, importance_weighted_nll

from ..helpers.models import KINDS, noise, small

NOW = torch.tensor(0)


@pytest.mark.parametrize(
    ("log_weights", "bound"),
    # A softmax over positive losses, as seen in public code, would let the worse sample win.
    [([-3.0], 3.0), ([log(1.0), log(3.0)], -log(2.0)), ([-100.0, -900.0], 100 + log(2))],
)
def test_weights_are_averaged_not_log_weights(log_weights, bound):
    assert importance_weighted_nll(torch.tensor(log_weights)[:, None]).item() == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_more_samples_tighten_the_bound(kind, images):
    """In the mean over images; the parts beside it are those of the plain bound."""
    model = small(**kind)
    one, many = (Iwae(count)(model(images, noise(model, 100, samples=count)), NOW) for count in (1, 50))
    assert many.loss.mean() < one.loss.mean()
    assert many.loss.mean() < (many.distortion + many.rate).mean()


def test_with_one_sample_it_is_the_negative_elbo_without_the_closed_form(images):
    model = small(prior="flow")  # which has none either
    result = model(images, noise(model, 100))
    torch.testing.assert_close(Iwae(1)(result, NOW).loss, Elbo()(result, NOW).loss)


def test_the_bound_is_exact_where_the_likelihood_is_known(images):
    """A decoder that ignores z makes every pixel a fair coin: -log p(x) is 784 log 2, whatever S."""
    model = small()
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    loss = Iwae(16)(model((images > 0.5).float(), noise(model, 100, samples=16)), NOW).loss
    torch.testing.assert_close(loss, torch.full((100,), 784 * log(2)), rtol=1e-6, atol=0)


def test_gradients_weigh_samples_by_their_normalised_weights(images):
    """Burda et al. 2016, eq. 13."""
    log_weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    importance_weighted_nll(log_weights).sum().backward()
    torch.testing.assert_close(-log_weights.grad, log_weights.detach().softmax(0))
