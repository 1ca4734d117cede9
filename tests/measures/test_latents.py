import torch

from vae_mnist.measures.latents import active_units, posterior_statistics

from ..helpers.models import small


def test_active_units_count_dimensions_whose_mean_varies():
    means = torch.zeros(1000, 4)
    means[:, 1] = torch.linspace(-1, 1, 1000)
    means[:, 2] = 5.0  # far from the prior, but the same for every image
    means[::2, 3] = 0.19  # variance 0.009
    assert active_units(means) == 1
    assert active_units(torch.tensor([[0.09], [-0.09]])) == 0  # variance 0.0081; 0.0162 with Bessel's correction


def test_posterior_statistics_agree_with_one_pass(images):
    model = small()
    means, kl = posterior_statistics(model, images, batch_size=33)
    with torch.no_grad():
        mean, logvar = model.encode(images)
    torch.testing.assert_close(means, mean)
    expected = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0).double()
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-6)


def test_means_keep_no_larger_tensor_alive(images):
    """A view of the encoder's output would keep the log-variances as well."""
    means, _ = posterior_statistics(small(), images, batch_size=10)
    assert means.untyped_storage().nbytes() == means.numel() * 4
