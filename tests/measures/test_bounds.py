import gc
from math import log

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from vae_mnist.errors import InputError
from vae_mnist.measures.bounds import active_units, importance_weighted, loss_parts, posterior_statistics
from vae_mnist.models import VAE
from vae_mnist.objectives.elbo import negative_elbo


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(latent_dim=2, hidden_dim=8).eval()


def test_loss_is_averaged_per_image_not_per_batch(model, images):
    """100 images in batches of 30 leave a batch of 10, whose images must count no more than the others'."""
    whole, ragged = loss_parts(model, images, batch_size=100), loss_parts(model, images, batch_size=30)
    noise = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_hand = negative_elbo(model(images, noise), images).loss.mean().item()
    assert whole.loss == pytest.approx(by_hand, rel=1e-6)
    assert ragged.kld == pytest.approx(whole.kld, rel=1e-6)
    assert ragged.loss == pytest.approx(whole.loss, rel=2e-3)  # other noise, same average


def test_parts_add_up_and_beta_1_is_reported_beside_any_beta(model, images):
    parts = loss_parts(model, images, beta=4.0)
    assert parts.loss == pytest.approx(parts.bce + 4 * parts.kld)
    assert parts.neg_elbo == pytest.approx(parts.bce + parts.kld)


def test_test_loss_is_the_same_each_time(model, images):
    assert loss_parts(model, images) == loss_parts(model, images)


def test_8_bit_images_are_measured_like_floats(model, sample_digits):
    images = sample_digits[1]["images"][:50]
    assert loss_parts(model, images) == loss_parts(model, images.float() / 255)


def test_measuring_leaves_the_mode_of_the_model_alone(model, images):
    model.train()
    loss_parts(model, images)
    assert model.training


def test_measuring_nothing_is_refused(model):
    with pytest.raises(InputError, match="at least one, got none"):
        loss_parts(model, torch.zeros(0, 1, 28, 28))


def test_importance_weighted_nll_equals_torch_distributions(model, images):
    binary = (images > 0.5).float()[:3]
    samples, seed = 7, 5
    with torch.no_grad():
        mean, logvar = model.encode(binary)
        noise = torch.randn(samples, 3, 2, generator=torch.Generator().manual_seed(seed))
        z = mean + torch.exp(0.5 * logvar) * noise
        posterior, prior = Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)
        logits = model.decode_logits(z.flatten(0, 1)).view(samples, 3, 1, 28, 28)
        likelihood = Independent(Bernoulli(logits=logits), 3).log_prob(binary)
        weights = likelihood + prior.log_prob(z).sum(2) - posterior.log_prob(z).sum(2)
        expected = (log(samples) - torch.logsumexp(weights, 0)).mean().item()
    assert importance_weighted(model, binary, samples, seed=seed).nll == pytest.approx(expected, rel=1e-5)


def test_importance_weighted_nll_is_exact_where_the_likelihood_is_known(images):
    """A decoder that ignores z makes every pixel a fair coin: -log p(x) is 784 log 2, whatever k."""
    with torch.random.fork_rng(devices=[]):
        model = VAE(latent_dim=2, hidden_dim=4)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    binary = (images > 0.5).float()
    result = importance_weighted(model, binary, 16)
    assert result.nll == pytest.approx(784 * log(2), rel=1e-6)
    assert result.standard_error == pytest.approx(0.0, abs=1e-6)


def test_more_importance_samples_tighten_the_bound(model, images):
    binary = (images > 0.5).float()
    one, many = (importance_weighted(model, binary, k).nll for k in (1, 200))
    assert many < one


def test_memory_is_bounded_by_chunks_smaller_than_k(model, images, monkeypatch):
    largest = []
    decode = VAE.decode_logits
    monkeypatch.setattr(VAE, "decode_logits", lambda self, z: largest.append(len(z)) or decode(self, z))
    chunked = importance_weighted(model, images[:3], 25, chunk_size=10)
    assert max(largest) <= 10
    assert sum(largest) == 3 * 25
    largest.clear()
    importance_weighted(model, images, 4, chunk_size=50)
    assert max(largest) <= 50
    assert chunked.nll == pytest.approx(importance_weighted(model, images[:3], 25).nll, rel=0.01)


def test_nothing_is_kept_from_one_group_of_images_to_the_next(model, images):
    """A small tensor kept between the large ones of two groups takes a hole in memory that the next do not fit into."""
    alive = []
    model.decoder.register_forward_hook(
        lambda *_: alive.append(sum(type(each) is torch.Tensor for each in gc.get_objects()))
    )
    importance_weighted(model, images, 5, chunk_size=50)
    assert len(alive) == 10
    assert len(set(alive[1:])) == 1  # the first has no group before it


def test_active_units_count_dimensions_whose_mean_varies():
    means = torch.zeros(1000, 4)
    means[:, 1] = torch.linspace(-1, 1, 1000)
    means[:, 2] = 5.0  # far from the prior, but the same for every image
    means[::2, 3] = 0.19  # variance 0.009
    assert active_units(means) == 1


def test_posterior_statistics_agree_with_one_pass(model, images):
    means, kl = posterior_statistics(model, images, batch_size=33)
    with torch.no_grad():
        mean, logvar = model.encode(images)
    torch.testing.assert_close(means, mean)
    expected = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0).double()
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-6)
