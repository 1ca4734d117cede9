import gc
import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from vae_mnist.config.model import MixtureConfig
from vae_mnist.errors import InputError
from vae_mnist.measures.bounds import (
    Mean,
    average_terms,
    evenly_spread,
    importance_weighted,
    nll_of_images,
    terms_of_images,
)
from vae_mnist.models import VAE
from vae_mnist.models.gaussian import DiagonalGaussian
from vae_mnist.models.mixture import MixturePrior
from vae_mnist.models.network import EncoderDecoder
from vae_mnist.objectives import Elbo, Iwae

from ..helpers.models import small


@pytest.fixture
def model():
    return small(latent_dim=2, mlp={"hidden_dim": 8}).eval()


def nll(model, images, samples, seed=0, chunk_size=2000):
    return importance_weighted(model, images, samples, seed=seed, chunk_size=chunk_size)


def test_loss_is_averaged_per_image_not_per_batch(model, images):
    """100 images in batches of 30 leave a batch of 10, whose images must count no more than the others'."""
    whole, ragged = (average_terms(model, Elbo(), images, batch_size=size) for size in (100, 30))
    noise = torch.randn(1, 100, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_hand = Elbo()(model(images, noise), torch.tensor(0)).loss.mean().item()
    assert whole.loss == pytest.approx(by_hand, rel=1e-6)
    assert ragged.rate == pytest.approx(whole.rate, rel=1e-6)
    assert ragged.loss == pytest.approx(whole.loss, rel=2e-3)  # other noise, same average


def test_an_objective_of_several_samples_decodes_no_more_at_once(model, images):
    largest = []
    model.network.decoder.register_forward_pre_hook(lambda _, z: largest.append(len(z[0])))
    losses = average_terms(model, Iwae(20), images, batch_size=100)
    assert max(largest) <= 100
    assert losses.loss < losses.neg_elbo


def test_test_loss_is_the_same_each_time(model, images):
    assert average_terms(model, Elbo(), images) == average_terms(model, Elbo(), images)


def test_8_bit_images_are_measured_like_floats(model, sample_images):
    images = sample_images[1]["images"][:50]
    eight, floats = (average_terms(model, Elbo(), each) for each in (images, images.float() / 255))
    assert eight == floats


def test_measuring_leaves_the_mode_of_the_model_alone(model, images):
    model.train()
    average_terms(model, Elbo(), images)
    assert model.training


def test_measuring_nothing_is_refused(model):
    with pytest.raises(InputError, match="at least one, got none"):
        average_terms(model, Elbo(), torch.zeros(0, 1, 28, 28))


def test_pixels_outside_the_unit_interval_are_refused(model):
    """Cross-entropy of such pixels has no lower bound, a mistake seen in public code."""
    with pytest.raises(InputError, match=r"expected floats in \[0, 1\], got 0 to 255"):
        average_terms(model, Elbo(), torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 1, 28, 28))


class _Unit:
    """p(x|z) = N(outputs, 1): with a linear decoder log p(x) is known."""

    name, outputs, pixels, words = "nll", 1, "grey", ""

    def nll(self, outputs, images):
        return -Normal(outputs, 1.0).log_prob(images).flatten(2).sum(2)


class _Linear(EncoderDecoder):
    """x = W z + b, and a posterior that is only roughly the true one."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(9, 2, generator=generator)
        self.bias = torch.rand(9, generator=generator)
        self.spread = torch.linalg.inv(torch.eye(2) + self.weight.T @ self.weight)

    def encode(self, images):
        mean = (images.flatten(1) - self.bias) @ self.weight @ self.spread
        return torch.cat([mean, self.spread.diagonal().log().expand(len(images), 2) + 0.3], dim=1)

    def decode(self, z):
        return (z @ self.weight.T + self.bias).view(-1, 1, 3, 3)

    def start_at(self, outputs):
        pass


def test_importance_weighted_nll_converges_to_the_known_likelihood_of_a_linear_gaussian_model():
    """Probabilistic PCA (Tipping & Bishop 1999): x ~ N(b, W W' + I)."""
    network = _Linear()
    model = VAE(2, (1, 3, 3), network=network, likelihood=_Unit())
    images = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    exact = MultivariateNormal(network.bias, network.weight @ network.weight.T + torch.eye(9))
    expected = -exact.log_prob(images.flatten(1)).mean().item()
    few, many = (nll(model, images, samples, chunk_size=100_000).nll for samples in (1, 5000))
    assert many == pytest.approx(expected, abs=0.003)
    assert few > expected + 0.01


def test_it_converges_to_the_known_likelihood_with_a_mixture_as_prior():
    """A mixture of Gaussians through a linear decoder is a mixture of Gaussians."""
    with torch.random.fork_rng(devices=[]):
        network, prior = _Linear(), MixturePrior(2, MixtureConfig(components=3))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in prior.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    model = VAE(2, (1, 3, 3), network=network, prior=prior, likelihood=_Unit())
    images = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    means = prior.means @ network.weight.T + network.bias
    covariances = torch.stack(
        [network.weight @ v.exp().diag() @ network.weight.T + torch.eye(9) for v in prior.logvars]
    )
    exact = MixtureSameFamily(Categorical(logits=prior.logits), MultivariateNormal(means, covariances))
    expected = -exact.log_prob(images.flatten(1)).mean().item()
    few, many = (nll(model, images, samples, chunk_size=100_000).nll for samples in (1, 5000))
    assert many == pytest.approx(expected, abs=0.01)
    assert few > expected + 0.1


class _LinearLadder(_Linear):
    """z_2 ~ N(A z_1, 0.5), x = W z_1 + V z_2 + b: two groups of two latents, too wide posteriors."""

    groups = (2,)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.below = torch.randn(9, 2, generator=generator)
        self.step = torch.randn(2, 2, generator=generator)
        self.through = self.weight + self.below @ self.step.T  # what z_1 does to the image, on both ways
        self.noise = 0.5 * self.below @ self.below.T + torch.eye(9)

    def ascend(self, images):
        scaled = torch.linalg.solve(self.noise, self.through)
        spread = torch.linalg.inv(torch.eye(2) + self.through.T @ scaled)
        mean = (images.flatten(1) - self.bias) @ scaled @ spread
        return torch.cat([mean, (spread.diagonal().log() + 0.8).expand_as(mean)], dim=1), (images,)

    def descend(self, code, choose, features):
        prior = DiagonalGaussian(code @ self.step, torch.full_like(code, math.log(0.5)))
        posterior = None
        if features is not None:
            left = (features[0].flatten(1) - self.bias).repeat(len(code) // len(features[0]), 1) - code @ self.weight.T
            spread = torch.linalg.inv(2 * torch.eye(2) + self.below.T @ self.below)
            mean = (left @ self.below + 2 * prior.mean) @ spread
            posterior = DiagonalGaussian(mean, (spread.diagonal().log() + 0.8).expand_as(mean))
        return self.decode(code) + (choose(1, prior, posterior) @ self.below.T).view(-1, 1, 3, 3)


def test_it_converges_to_the_known_likelihood_over_two_groups_of_latents():
    network = _LinearLadder()
    model = VAE(2, (1, 3, 3), network=network, likelihood=_Unit())
    assert model.groups == (2, 2)
    images = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    covariance = network.through @ network.through.T + network.noise
    expected = -MultivariateNormal(network.bias, covariance).log_prob(images.flatten(1)).mean().item()
    few, many = (nll(model, images, samples, chunk_size=100_000).nll for samples in (1, 20_000))
    assert many == pytest.approx(expected, abs=0.02)
    assert few > expected + 0.1


def test_the_standard_error_is_that_of_the_mean_over_images(model, images):
    binary = (images > 0.5).float()
    each = torch.tensor([nll(model, image[None], 500).nll for image in binary[:20]])
    result = nll(model, binary[:20], 500)
    assert result.standard_error == pytest.approx(each.std().item() / 20**0.5, rel=0.2)  # other noise
    assert nll(model, binary[:1], 5).standard_error == 0


def test_memory_is_bounded_by_chunks_smaller_than_the_number_of_samples(model, images):
    largest = []
    model.network.decoder.register_forward_pre_hook(lambda _, z: largest.append(len(z[0])))
    chunked = nll(model, images[:3], 25, chunk_size=10)
    assert max(largest) <= 10
    assert sum(largest) == 3 * 25
    largest.clear()
    nll(model, images, 4, chunk_size=50)
    assert max(largest) <= 50
    assert chunked.nll == pytest.approx(nll(model, images[:3], 25).nll, rel=1e-6)


@pytest.mark.parametrize(("samples", "chunk_size"), [(3, 1), (3, 7), (3, 299), (700, 500), (2500, 999), (5000, 2000)])
def test_the_size_of_chunks_up_to_2000_does_not_change_what_is_measured(model, images, samples, chunk_size):
    few = images[: 100 if samples < 100 else 3]
    whole = nll(model, few, samples, chunk_size=2000)
    assert nll(model, few, samples, chunk_size=chunk_size).nll == pytest.approx(whole.nll, rel=1e-6)


def test_the_samples_of_an_image_are_weighted_with_that_image(model, images):
    """Chunks take images and samples apart and put them together again."""
    drawn = torch.randn(50, 40, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weights = model(images[:40], drawn).log_weights.double()
    expected = (math.log(50) - weights.logsumexp(0)).mean().item()
    for chunk_size in (2000, 500, 30):
        assert nll(model, images[:40], 50, chunk_size=chunk_size).nll == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("count", "places"), [(11, range(10)), (10, range(10)), (5, [0, 2, 4, 6, 8]), (3, [0, 3, 6])])
def test_some_of_the_images_are_spread_evenly_over_all(count, places):
    images = torch.arange(10)
    assert evenly_spread(images, count).tolist() == list(places)


def test_nothing_is_kept_from_one_group_of_images_to_the_next(model, images):
    """A small tensor kept between the large ones of two groups takes a hole in memory that the next do not fit into."""
    alive = []
    model.network.decoder.register_forward_hook(
        lambda *_: alive.append(sum(type(each) is torch.Tensor for each in gc.get_objects()))
    )
    nll(model, images[:20], 1000)
    assert len(alive) == 10
    assert len(set(alive[1:])) == 1  # the first has no group before it


def test_the_terms_and_bounds_of_single_images_have_the_means_that_are_reported(model, images):
    terms = terms_of_images(model, Elbo(), images, batch_size=30)
    losses = average_terms(model, Elbo(), images, batch_size=30)
    assert {name: each.mean().item() for name, each in terms.items()} == {
        "loss": losses.loss, "distortion": losses.distortion, "rate": losses.rate, **losses.extra
    }  # fmt: skip
    each = nll_of_images(model, images, 4, seed=0, chunk_size=30)
    assert nll(model, images, 4) == (
        pytest.approx(each.mean().item(), rel=1e-6),
        pytest.approx(each.std().item() / 10, rel=1e-6),
    )


def test_terms_are_given_in_the_order_of_the_images(model, images):
    terms = terms_of_images(model, Elbo(), images, batch_size=30)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        parts = [model(part, torch.randn(1, len(part), 2, generator=generator)) for part in images.split(30)]
    torch.testing.assert_close(terms["distortion"], torch.cat([part.nll[0] for part in parts]).double())


def test_the_standard_error_of_a_mean():
    assert Mean.of(torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)) == (3.0, pytest.approx((14 / 3 / 4) ** 0.5))
    assert Mean.of(torch.tensor([5.0])) == (5.0, 0.0)
