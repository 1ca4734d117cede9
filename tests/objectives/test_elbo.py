"""Losses against hand-computed values and torch.distributions."""

from math import exp, log

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional

from vae_mnist.errors import InputError
from vae_mnist.models import VAEOutput
from vae_mnist.objectives import elbo as losses

GENERATOR = torch.Generator().manual_seed(1)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def test_reconstruction_nll_of_one_pixel_is_computed_by_hand():
    logits, pixel = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 0.25)
    p = 1 / (1 + exp(-2.0))
    by_hand = -(0.25 * log(p) + 0.75 * log(1 - p))
    assert losses.reconstruction_nll(logits, pixel).item() == pytest.approx(by_hand, rel=1e-6)


def test_reconstruction_nll_of_binary_pixels_is_the_bernoulli_log_probability():
    logits, pixels = random(5, 1, 6, 7), (random(5, 1, 6, 7) > 0).float()
    expected = -Independent(Bernoulli(logits=logits), 3).log_prob(pixels)
    torch.testing.assert_close(losses.reconstruction_nll(logits, pixels), expected)


def test_reconstruction_nll_sums_over_pixels_and_keeps_images_apart():
    logits, pixels = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    torch.testing.assert_close(losses.reconstruction_nll(logits, pixels), torch.full((3,), 4 * log(2)))


def test_reconstruction_nll_stays_finite_for_extreme_logits():
    logits = torch.tensor([1e4, -1e4]).view(2, 1, 1, 1)
    assert losses.reconstruction_nll(logits, torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)).tolist() == [1e4, 1e4]


@pytest.mark.parametrize("width", [1, 28, 126, 127, 300])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 30.0, 1e4])
def test_reconstruction_nll_and_its_gradient_are_those_of_torch_in_double_precision(width, scale):
    logits, pixels = scale * random(3, 2, 4, width), torch.rand(3, 2, 4, width, generator=GENERATOR)
    weights = torch.tensor([1.0, -2.0, 0.5])
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    nll = losses.reconstruction_nll(ours, pixels)
    torchs = functional.binary_cross_entropy_with_logits(theirs, pixels.double(), reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(nll.double(), torchs, rtol=1e-6, atol=1e-6)
    (nll @ weights).backward()
    (torchs @ weights.double()).backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-6, atol=2e-7)


def test_reconstruction_nll_can_be_differentiated_twice_and_by_its_images():
    logits, pixels = random(2, 1, 3, 4).double(), torch.rand(2, 1, 3, 4, generator=GENERATOR).double()
    inputs = logits.requires_grad_(), pixels.requires_grad_()
    with torch.random.fork_rng():
        assert torch.autograd.gradcheck(losses._BernoulliNll.apply, inputs)
        assert torch.autograd.gradgradcheck(losses._BernoulliNll.apply, inputs)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_computed_in_float32(half):
    logits, pixels = random(4, 1, 28, 28).to(half), torch.rand(4, 1, 28, 28, generator=GENERATOR)
    nll = losses.reconstruction_nll(logits, pixels)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, losses.reconstruction_nll(logits.float(), pixels), rtol=0, atol=0)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan")])
def test_pixels_outside_the_unit_interval_are_refused(value):
    with pytest.raises(InputError, match=r"expected pixels in \[0, 1\], got"):
        losses.reconstruction_nll(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), value))


def test_images_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"logits' shape \(2, 1, 4, 4\), got \(2, 16\)"):
        losses.reconstruction_nll(torch.zeros(2, 1, 4, 4), torch.zeros(2, 16))


def test_kl_is_zero_when_posterior_equals_prior():
    assert losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]


def test_kl_is_computed_by_hand():
    # KL(N(1, 4) || N(0, 1)) = 1/2 (4 + 1 - 1 - log 4)
    by_hand = 0.5 * (4 + 1 - 1 - log(4))
    kl = losses.kl_divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[log(4.0), 0.0]]))
    assert kl.item() == pytest.approx(by_hand, rel=1e-6)


def test_kl_equals_torch_distributions():
    mean, logvar = random(6, 5), random(6, 5)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0))
    torch.testing.assert_close(losses.kl_per_dimension(mean, logvar), expected)
    torch.testing.assert_close(losses.kl_divergence(mean, logvar), expected.sum(1))


def test_kl_is_never_negative():
    assert (losses.kl_divergence(random(1000, 8), 3 * random(1000, 8)) >= 0).all()


def test_negative_elbo_sums_both_parts_and_weighs_the_kl_with_beta():
    output = VAEOutput(random(4, 1, 3, 3), random(4, 2), random(4, 2))
    images = torch.rand(4, 1, 3, 3, generator=GENERATOR)
    nll = losses.reconstruction_nll(output.logits, images)
    kl = losses.kl_divergence(output.mean, output.logvar)
    terms = losses.negative_elbo(output, images, beta=4.0)
    torch.testing.assert_close(terms.loss, nll + 4 * kl)
    torch.testing.assert_close(terms.reconstruction, nll)
    torch.testing.assert_close(terms.kl, kl)
    torch.testing.assert_close(losses.negative_elbo(output, images).loss, nll + kl)
    assert (terms.loss > 0).all(), "the negative bound is positive, the bound itself would not be"


def test_importance_weighted_nll_of_one_sample_is_minus_the_log_weight():
    weights = random(1, 7)
    torch.testing.assert_close(losses.importance_weighted_nll(weights), -weights[0])


def test_importance_weighted_nll_averages_weights_not_log_weights():
    weights = torch.tensor([[log(1.0)], [log(3.0)]])
    assert losses.importance_weighted_nll(weights).item() == pytest.approx(-log(2.0), rel=1e-6)


def test_a_good_sample_counts_most_in_the_importance_weighted_nll():
    """A softmax over positive losses, as seen in public code, would let the bad sample win."""
    log_weights = torch.tensor([[-100.0], [-900.0]])
    assert losses.importance_weighted_nll(log_weights).item() == pytest.approx(100 + log(2), rel=1e-6)
