from math import log

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from vae_mnist.errors import InputError
from vae_mnist.models import Pass
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.priors import StandardNormal
from vae_mnist.objectives.factor import shuffled

from ..helpers.models import FACTOR, noise, objective, small

NOW = torch.tensor(0)


def factor(**changes):
    return objective(name="factor", factor=FACTOR | changes)


def order(count, dims=4, seed=5):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))


def test_each_dimension_is_permuted_over_the_batch_in_its_own_way():
    codes = order(200, seed=0)
    mixed = shuffled(codes, order(200))
    assert torch.equal(mixed.sort(0).values, codes.sort(0).values)
    moved = (mixed[:, :, None] == codes.T[None]).float().argmax(2)  # which row each number comes from
    assert not torch.equal(moved[:, 0], moved[:, 1])
    assert torch.equal(shuffled(codes, torch.arange(200.0)[:, None].expand(200, 4)), codes)


def test_the_loss_has_gamma_times_the_discriminators_logit(images):
    model, made = small(), factor()
    result = model(images, noise(model, 100))
    terms = made(result, NOW, order(100))
    logit = made.discriminator(result.z[0][0]).squeeze(1)
    assert torch.equal(terms.extra["total_correlation"], logit)
    torch.testing.assert_close(terms.loss, terms.distortion + terms.rate + 5 * logit)
    assert torch.equal(terms.rate, result.rate)


def test_the_second_player_minimises_the_cross_entropy_of_codes_and_shuffled_codes(images):
    model, made = small(), factor()
    result = model(images, noise(model, 100))
    terms = made(result, NOW, order(100))
    codes = result.z[0][0]
    real, mixed = (made.discriminator(each).squeeze(1) for each in (codes, shuffled(codes, order(100))))
    by_hand = 0.5 * (cross_entropy(real, torch.ones(100)) + cross_entropy(mixed, torch.zeros(100)))
    assert terms.adversary.mean().item() == pytest.approx(by_hand.item(), rel=1e-6)
    right = ((real > 0).sum() + (mixed <= 0).sum()) / 200
    assert terms.extra["discriminator_accuracy"].mean().item() == pytest.approx(right.item())


def test_one_backward_pass_gives_each_player_the_gradient_of_its_own_loss(images):
    model, made = small(), factor()
    terms = made(model(images, noise(model, 100)), NOW, order(100))
    own, theirs = list(model.parameters()), list(made.parameters())
    found = torch.autograd.grad(terms.minimised.sum(), [*own, *theirs], retain_graph=True)
    expected = torch.autograd.grad(terms.loss.sum(), own, retain_graph=True)
    for one, other in zip(found, expected, strict=False):
        assert torch.equal(one, other)
    assert torch.autograd.grad(terms.loss.sum(), theirs, retain_graph=True, allow_unused=True) == (None,) * len(theirs)
    assert torch.autograd.grad(terms.adversary.sum(), own, retain_graph=True, allow_unused=True) == (None,) * len(own)
    for one, other in zip(found[len(own) :], torch.autograd.grad(terms.adversary.sum(), theirs), strict=True):
        assert torch.equal(one, other)
        assert one.abs().sum() > 0


def test_the_total_correlation_reaches_the_encoder(images):
    model = small()
    result, without = (model(images, noise(model, 100)) for _ in range(2))
    pulled, plain = (
        torch.autograd.grad(factor(gamma=gamma)(passed, NOW, order(100)).loss.sum(), passed.posteriors[0].mean)[0]
        for gamma, passed in ((5.0, result), (0.0, without))
    )
    assert not torch.allclose(pulled, plain)


def test_a_trained_discriminator_estimates_the_known_total_correlation_of_a_gaussian():
    """Two dimensions of correlation r have -1/2 log(1 - r^2) nats."""
    generator, r, known = torch.Generator().manual_seed(0), 0.8, -0.5 * log(1 - 0.8**2)
    made = objective(name="factor", factor=FACTOR | {"hidden_dim": 32})
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    found = []
    for _ in range(600):
        codes = torch.randn(500, 4, generator=generator)
        codes[:, 1] = r * codes[:, 0] + (1 - r**2) ** 0.5 * codes[:, 1]
        fixed = DiagonalGaussian(codes, torch.zeros(500, 4))
        passed = Pass(codes[None], torch.zeros(1, 500), (fixed,), (StandardNormal(4),), (codes[None],))
        terms = made(passed, NOW, torch.randn(500, 4, generator=generator))
        optimizer.zero_grad()
        terms.minimised.mean().backward()
        optimizer.step()
        found.append(terms.extra["total_correlation"].mean().item())
    assert sum(found[-100:]) / 100 == pytest.approx(known, rel=0.15)


def test_its_weights_have_an_optimizer_of_their_own_settings():
    assert factor().optimizer_settings == {"lr": 1e-4, "betas": (0.5, 0.9)}
    assert objective().optimizer_settings == {}


def test_without_noise_to_shuffle_by_it_says_so(images):
    model = small()
    with pytest.raises(InputError, match=r"Factor: expected noise \(B, 4\) to shuffle the codes by, got none"):
        factor()(model(images, noise(model, 100)), NOW)
