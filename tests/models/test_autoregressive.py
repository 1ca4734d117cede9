"""Pixels that depend on the ones before them: a distribution over all images, drawn as it is measured."""

from itertools import product

import pytest
import torch

from vae_mnist.config.model import AutoregressiveConfig
from vae_mnist.models.autoregressive import Autoregressive
from vae_mnist.models.likelihoods import Bernoulli, shown_words

from ..helpers.models import small

FEATURES = 3


def likelihood(channels=1, blocks=1, spread=0.4):
    """With random weights; with spread 0 as it starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Autoregressive(channels, AutoregressiveConfig(features=FEATURES, blocks=blocks))
        for weight in made.parameters() if spread else ():
            torch.nn.init.normal_(weight, std=spread)
    return made.requires_grad_(requires_grad=False)


def outputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def all_images(channels, height, width):
    """Each image of black and white pixels, (2^CHW, C, H, W)."""
    pixels = list(product([0.0, 1.0], repeat=channels * height * width))
    return torch.tensor(pixels).view(-1, channels, height, width)


@pytest.mark.parametrize(("channels", "height", "width", "blocks"), [(1, 3, 4, 1), (2, 2, 3, 2), (1, 2, 5, 0)])
def test_probabilities_of_all_images_add_up_to_one(channels, height, width, blocks):
    images = all_images(channels, height, width)
    given = outputs(2, 1, FEATURES * channels, height, width).expand(2, len(images), -1, -1, -1)
    nll = likelihood(channels, blocks).nll(given, images)
    assert nll.shape == (2, len(images))
    torch.testing.assert_close(torch.exp(-nll.double()).sum(1), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_pixel_depends_on_the_ones_before_it_alone(blocks):
    """By the derivatives of each pixel's logit: all of the rows above and of the left are seen, none of the others."""
    made, height, width = likelihood(blocks=blocks), 9, 12
    given, images = outputs(1, FEATURES, height, width), outputs(1, 1, height, width).requires_grad_()
    row, column = 6, 5
    logit = made._logits(given, made.first(images))[0, 0, row, column]
    (gradient,) = torch.autograd.grad(logit, images)
    seen = gradient[0, 0] != 0
    reach = 3 + 2 * blocks
    assert made.reach == reach
    expected = torch.zeros(height, width, dtype=torch.bool)
    expected[row, max(0, column - reach) : column] = True
    assert torch.equal(seen[row], expected[row])
    assert not seen[row + 1 :].any()
    assert seen[max(0, row - reach) : row, column].all()
    assert not seen[: max(0, row - reach)].any()


@pytest.mark.parametrize(("channels", "blocks"), [(1, 0), (1, 2), (3, 1)])
def test_images_are_drawn_from_what_is_measured(channels, blocks):
    """Drawn pixel by pixel from small parts, with the probabilities of the whole image."""
    made, given = likelihood(channels, blocks), outputs(4, FEATURES * channels, 10, 13)
    means, drawn = made._by_turns(given, torch.rand(4, channels, 10, 13, generator=torch.Generator().manual_seed(2)))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(means, made._logits(given, made.first(drawn)).sigmoid(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.nll(given[None], drawn)[0], -_log_prob(means, drawn), rtol=1e-4, atol=1e-3)


def _log_prob(means, images):
    return torch.distributions.Bernoulli(means).log_prob(images).flatten(1).sum(1)


def test_draws_have_the_frequencies_that_the_likelihood_says():
    made, images, count = likelihood(), all_images(1, 2, 2), 40_000
    one = outputs(1, FEATURES, 2, 2)
    drawn = made.draw(one.expand(count, -1, -1, -1), torch.Generator().manual_seed(0))
    numbers = (drawn.flatten(1) * torch.tensor([8.0, 4.0, 2.0, 1.0])).sum(1).long()
    found = numbers.bincount(minlength=16) / count
    expected = torch.exp(-made.nll(one[None].expand(1, 16, -1, -1, -1), images)[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.011)  # four standard errors
    assert expected.max() > 2 * expected.min()


def test_an_image_is_a_function_of_its_code():
    made, given = likelihood(), outputs(5, FEATURES, 6, 7)
    together = made.mean(given)
    assert together.shape == (5, 1, 6, 7)
    torch.testing.assert_close(together[2:3], made.mean(given[2:3]))
    torch.testing.assert_close(made.mean(given[:1].expand(2, -1, -1, -1))[1], together[0])
    assert ((together >= 0) & (together <= 1)).all()


def test_it_starts_as_independent_pixels_at_the_means_asked_for():
    made, plain = likelihood(spread=0.0), Bernoulli()
    means = torch.tensor([[0.02, 0.3, 0.5], [0.9, 0.99, 0.5]]).view(1, 2, 3)
    logits = made.outputs_of(means)
    assert logits.shape == (FEATURES, 2, 3)
    torch.testing.assert_close(made.mean(logits[None])[0], means)
    given, images = outputs(2, 3, FEATURES, 6, 7), (outputs(3, 1, 6, 7) > 0).float()
    torch.testing.assert_close(made.nll(given, images), plain.nll(given[:, :, :1], images))


def test_losses_are_float32_and_finite_in_half_precision():
    made, given, images = likelihood(), outputs(1, 4, FEATURES, 28, 28), (outputs(4, 1, 28, 28) > 0).float()
    exact = made.nll(given, images)
    with torch.autocast("cpu", torch.bfloat16):
        value = made.nll(given.bfloat16(), images)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=0.02, atol=0)


def test_a_model_with_it_draws_and_learns(images):
    model = small(likelihood="autoregressive")
    assert model.decode(outputs(2, model.latent_dim)).shape == (2, 1, 28, 28)
    binary = (images > 0.5).float()
    result = model(binary, torch.zeros(1, len(binary), model.noise_dim))
    result.nll.mean().backward()
    assert all(weight.grad.isfinite().all() for weight in model.likelihood.parameters())
    assert model.likelihood.last.weight.grad.abs().sum() > 0


def test_a_caption_says_that_pixels_are_given_those_before():
    assert shown_words(small(likelihood="autoregressive").likelihood) == "pixel means given the pixels before"
    assert shown_words(Bernoulli()) == "pixel means"
