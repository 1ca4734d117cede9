"""The ladder: groups of latents from the top down."""

from math import prod

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from vae_mnist import interpolate, sample, traverse
from vae_mnist.errors import ConfigError, InputError
from vae_mnist.models.gaussian import DiagonalGaussian

from ..helpers.models import disturbed, model_config, noise, small

SIZES = {"patch": 2, "channels": [4, 6], "blocks": [1, 0], "groups": [1, 2], "latent_channels": [1, 2]}


@pytest.fixture
def model():
    return disturbed(small(network="ladder", ladder=SIZES), spread=0.1)


def normal(gaussian):
    return Independent(Normal(gaussian.mean, torch.exp(0.5 * gaussian.logvar)), 1)


def test_its_groups_are_the_dense_one_and_those_of_each_resolution_from_the_coarsest(model):
    assert model.groups == (4, 2 * 7 * 7, 2 * 7 * 7, 1 * 14 * 14)
    assert model.latent_dim == model.noise_dim == sum(model.groups)


@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 17, 31), (1, 33, 16), (1, 64, 64)])
def test_any_height_width_and_channels(image_shape):
    model = small(image_shape, network="ladder", ladder=SIZES)
    coarse, fine = ([-(-side // size) for side in image_shape[1:]] for size in (4, 2))
    assert model.groups == (4, 2 * prod(coarse), 2 * prod(coarse), prod(fine))
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
    result = model(images, noise(model, 2, samples=3))
    assert result.outputs.shape == (3, 2, *image_shape)
    result.nll.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("network", ["residual", "ladder"])
def test_images_too_small_for_the_levels_are_refused(network):
    with pytest.raises(ConfigError, match=rf"model\.{network}\.channels: 2 levels .* at least 5 x 5 pixels, got 4 x 9"):
        small((1, 4, 9), network=network)


@pytest.mark.parametrize("name", ["blocks", "groups", "latent_channels"])
def test_each_level_needs_its_numbers(name):
    with pytest.raises(ValueError, match=rf"model\.ladder\.{name}: expected 2 numbers.*got 3"):
        model_config(network="ladder", ladder=SIZES | {name: [1, 1, 1]})


def test_a_ladder_without_groups_is_refused():
    with pytest.raises(ValueError, match=r"model\.ladder\.groups: expected at least one group"):
        model_config(network="ladder", ladder=SIZES | {"groups": [0, 0]})


def test_the_kl_of_a_lower_group_is_that_between_its_two_gaussians(model, images):
    result = model(images[:5], noise(model, 5, samples=2))
    for kl, q, p in list(zip(result.kls, result.posteriors, result.priors, strict=True))[1:]:
        expected = kl_divergence(normal(q), normal(p)).mean(0)
        torch.testing.assert_close(kl.sum(1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.rate, torch.stack(result.rates).sum(0))
    torch.testing.assert_close(result.kl.sum(1), result.rate)


def test_the_log_weights_count_every_group(model, images):
    result = model(images[:5], noise(model, 5, samples=2))
    log_p = sum(
        normal(p).log_prob(z) if isinstance(p, DiagonalGaussian) else Normal(0, 1).log_prob(z).sum(-1)
        for p, z in zip(result.priors, result.z, strict=True)
    )
    log_q = sum(normal(q).log_prob(z) for q, z in zip(result.posteriors, result.z, strict=True))
    torch.testing.assert_close(result.log_weights, log_p - log_q - result.nll, rtol=1e-4, atol=1e-2)


def test_priors_and_posteriors_of_a_pass_belong_to_its_own_codes(model, images):
    """The prior of a group given the codes of the pass above it is the one of generation."""
    result = model(images[:3], noise(model, 3))
    seen = []

    def choose(group, prior, posterior):
        seen.append(prior)
        assert posterior is None
        return result.z[group][0]

    outputs = model.network.descend(result.z[0][0], choose, None)
    torch.testing.assert_close(outputs, result.outputs[0])
    for p, expected in zip(seen, result.priors[1:], strict=True):
        torch.testing.assert_close(p.mean, expected.mean[0])
        torch.testing.assert_close(p.logvar, expected.logvar[0])


def test_a_ladder_starts_with_posteriors_that_are_the_priors(images):
    result = small(network="ladder", ladder=SIZES)(images[:3], torch.zeros(1, 3, 396))
    assert all(kl.abs().max() == 0 for kl in result.kls[1:])


def test_a_lower_group_depends_on_the_groups_above_and_on_the_image(model, images):
    one, drawn = images[:1], noise(model, 1)
    base = model(one, drawn)
    changed = drawn.clone()
    changed[..., :4] += 1.0
    above, other = model(one, changed), model(images[1:2], drawn)
    for group in (1, 2, 3):
        assert not torch.allclose(base.priors[group].mean, above.priors[group].mean)
        assert not torch.allclose(base.posteriors[group].mean, above.posteriors[group].mean)
        assert not torch.allclose(base.posteriors[group].mean, other.posteriors[group].mean)


def test_codes_are_the_posterior_means_of_all_groups_side_by_side_and_decode_takes_them_back(model, images):
    result = model(images[:3], torch.zeros(1, 3, model.noise_dim))
    codes = model.encode(images[:3])
    torch.testing.assert_close(codes.mean, torch.cat([z[0] for z in result.z], dim=1))
    torch.testing.assert_close(codes.logvar[:, :4], result.posteriors[0].logvar)
    torch.testing.assert_close(codes.logvar[:, 4:102], result.posteriors[1].logvar[0])
    torch.testing.assert_close(model.decode(codes.mean), torch.sigmoid(result.outputs[0]))


def test_codes_of_the_top_group_are_completed_by_the_conditional_means(model):
    top = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    whole = model.complete(top)
    assert whole.shape == (3, model.latent_dim)
    assert torch.equal(whole[:, :4], top)
    torch.testing.assert_close(model.complete(whole[:, :102]), whole)
    torch.testing.assert_close(model.decode(top), model.decode(whole))
    drawn = model.complete(top, noise=torch.ones(3, model.latent_dim - 4))
    assert not torch.allclose(drawn[:, 4:], whole[:, 4:])


def test_codes_of_half_a_group_are_refused(model):
    with pytest.raises(InputError, match=r"expected z of shape \(N, 396\) or \(N, 4\) of the top group, got \(2, 50\)"):
        model.decode(torch.zeros(2, 50))


def test_it_can_begin_with_the_mean_of_each_channel():
    model = small((3, 16, 16), network="ladder", ladder=SIZES)
    means = torch.tensor([0.1, 0.5, 0.8])
    model.start_at(means.view(3, 1, 1).expand(3, 16, 16))
    with torch.no_grad():
        model.network.last.convolution.weight.zero_()
        torch.testing.assert_close(model.decode(torch.zeros(1, 4)).mean((0, 2, 3)), means)


def test_a_posterior_is_written_in_units_of_its_prior(model, images):
    """With constant differences the KL is the same whatever the prior: (d^2 + r - 1 - log r) / 2, r = e^stretch."""
    difference, stretch = 0.7, -0.4
    for level in model.network.levels:
        for group in level:
            with torch.no_grad():
                group.difference.weight.zero_()
                group.difference.bias[: group.latents] = difference
                group.difference.bias[group.latents :] = stretch
    result = model(images[:2], noise(model, 2))
    logvar = 5 * torch.tanh(torch.tensor(stretch / 5))
    expected = 0.5 * (difference**2 + logvar.exp() - 1 - logvar)
    for kl, prior in zip(result.kls[1:], result.priors[1:], strict=True):
        assert prior.logvar.std() > 0
        torch.testing.assert_close(kl, expected.expand(kl.shape), rtol=1e-4, atol=1e-5)


def test_paths_and_traversals_say_which_groups_change(model, images):
    codes = model.encode(images[:2]).mean.detach()
    for groups, width in ((1, 4), (2, 102), (4, 396)):
        path = interpolate(model, codes[0], codes[1], 3, groups=groups)
        ends = model.decode(codes[:, :width]).detach()
        torch.testing.assert_close(path[[0, 2]], ends)
        torch.testing.assert_close(path[1:2], model.decode(codes[:, :width].mean(0, keepdim=True)).detach())
        walk = traverse(model, codes[:1], [3], codes[:1, 3], groups=groups)
        torch.testing.assert_close(walk, ends[:1])
    with pytest.raises(InputError, match="traverse: expected dimensions of 0 to 3, got"):
        traverse(model, codes[:1], [4], torch.zeros(1))
    for groups in (0, 5):
        with pytest.raises(InputError, match=f"groups: expected 1 to 4, got {groups}"):
            interpolate(model, codes[0], codes[1], groups=groups)


def test_at_temperature_zero_all_groups_are_at_their_means(model):
    means = model.decode(torch.zeros(2, 4)).detach()
    torch.testing.assert_close(sample(model, 2, temperature=0.0), means)
    assert not torch.allclose(sample(model, 2, temperature=0.1), means)
    lower = sample(model, 2, temperature=0.5, seed=3)
    generator = torch.Generator().manual_seed(3)
    top, rest = 0.5 * torch.randn(2, 4, generator=generator), torch.randn(2, 392, generator=generator)
    torch.testing.assert_close(lower, model.decode(model.complete(top, noise=0.5 * rest)).detach())


@pytest.mark.parametrize("layer", ["prior", "difference"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradients_stay_finite_at_the_bounds_of_the_lower_groups(layer, sign):
    """Of the log-variance of a prior, and of its difference to the posterior's."""
    model = small(network="ladder", ladder=SIZES)
    with torch.no_grad():
        for level in model.network.levels:
            for group in level:
                getattr(group, layer).bias[group.latents :] = sign * 1000.0
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    result = model(images, noise(model, 2))
    for p, q in zip(result.priors[1:], result.posteriors[1:], strict=True):
        bounded = p.logvar if layer == "prior" else q.logvar - p.logvar
        torch.testing.assert_close(bounded, torch.full_like(bounded, sign * 5.0))
    loss = (result.distortion + result.rate).mean()
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
