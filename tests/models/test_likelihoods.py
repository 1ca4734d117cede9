"""The Bernoulli likelihood against hand-computed values, torch.distributions and torch's own loss."""

import pytest
import torch
from torch.nn import functional

from vae_mnist.models.likelihoods import Bernoulli, _BernoulliNll

GENERATOR = torch.Generator().manual_seed(1)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def nll(logits, images):
    return Bernoulli().nll(logits, images)


@pytest.mark.parametrize("width", [1, 28, 126, 127, 300])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 30.0, 1e4])
def test_nll_and_its_gradient_are_those_of_torch_in_double_precision(width, scale):
    logits, pixels = scale * random(2, 3, 2, 4, width), torch.rand(3, 2, 4, width, generator=GENERATOR)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, 1.0]])
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    value = nll(ours, pixels)
    each = functional.binary_cross_entropy_with_logits(theirs, pixels.double().expand_as(theirs), reduction="none")
    torchs = each.flatten(2).sum(2)
    torch.testing.assert_close(value.double(), torchs, rtol=1e-6, atol=1e-6)
    (value * weights).sum().backward()
    (torchs * weights.double()).sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-6, atol=2e-7)


def test_nll_can_be_differentiated_twice_and_by_its_images():
    logits, pixels = random(2, 2, 1, 3, 4).double(), torch.rand(2, 1, 3, 4, generator=GENERATOR).double()
    inputs = logits.requires_grad_(), pixels.requires_grad_()
    with torch.random.fork_rng():
        assert torch.autograd.gradcheck(_BernoulliNll.apply, inputs)
        assert torch.autograd.gradgradcheck(_BernoulliNll.apply, inputs)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_widened_first(half):
    logits, pixels = random(1, 4, 1, 28, 28).to(half), torch.rand(4, 1, 28, 28, generator=GENERATOR)
    assert nll(logits, pixels).dtype == torch.float32
    torch.testing.assert_close(nll(logits, pixels), nll(logits.float(), pixels), rtol=0, atol=0)


def test_draws_are_black_or_white_with_the_means_as_probability():
    logits = torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2).expand(20_000, 1, 1, 2)
    draws = Bernoulli().draw(logits, torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    means = Bernoulli().mean(logits)[0].flatten().tolist()
    assert draws.mean(0).flatten().tolist() == pytest.approx(means, abs=0.01)


def test_outputs_of_means_give_these_means_and_stay_finite_where_a_pixel_is_always_black():
    means = torch.tensor([0.0, 0.3, 1.0]).view(1, 1, 3)
    outputs = Bernoulli().outputs_of(means)
    assert outputs.isfinite().all()
    torch.testing.assert_close(Bernoulli().mean(outputs), means, rtol=0, atol=1.1e-3)
