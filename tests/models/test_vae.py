import pytest
import torch

from vae_mnist.config.parameters import ModelConfig
from vae_mnist.errors import ConfigError, InputError
from vae_mnist.models import MODELS, VAE, build_model
from vae_mnist.models.vae import LOGVAR_MAX, LOGVAR_MIN, reparameterise
from vae_mnist.objectives.elbo import negative_elbo


@pytest.fixture
def build():
    """Build a model without moving torch's global generator."""

    def make(*args, **kwargs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return VAE(*args, **kwargs)

    return make


def test_default_network_is_784_512_32_512_784(build):
    model = build()
    sizes = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert sizes == [(784, 512), (512, 64), (32, 512), (512, 784)]  # 64: mean and log-variance
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in model.modules()) == 2


def test_outputs_have_the_shapes_of_the_input(build):
    logits, mean, logvar = build(latent_dim=5)(torch.zeros(3, 1, 28, 28), torch.zeros(3, 5))
    assert (logits.shape, mean.shape, logvar.shape) == ((3, 1, 28, 28), (3, 5), (3, 5))


@pytest.mark.parametrize("image_shape", [(1, 32, 32), (3, 8, 10), (1, 1, 1)])
def test_image_size_follows_from_the_data(build, image_shape):
    model = build(image_shape=image_shape, hidden_dim=8, latent_dim=2)
    assert model(torch.zeros(2, *image_shape), torch.zeros(2, 2)).logits.shape == (2, *image_shape)


def test_decode_gives_pixel_means_in_the_unit_interval(build):
    pixels = build().decode(torch.full((4, 32), 50.0))
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_noise_decides_the_sample(build, images):
    model, noise = build(), torch.ones(100, 32)
    assert torch.equal(model(images, noise).logits, model(images, noise).logits)
    assert not torch.equal(model(images, noise).logits, model(images, -noise).logits)


def test_noise_is_drawn_from_the_default_generator_if_none_is_given(build, images):
    model = build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        drawn = model(images).logits
        torch.manual_seed(7)
        expected = model(images, torch.randn(100, 32)).logits
    assert torch.equal(drawn, expected)


def test_reparameterised_samples_have_the_posterior_moments():
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    z = reparameterise(torch.full_like(noise, 3.0), torch.full_like(noise, 4.0).log(), noise)
    assert z.mean().item() == pytest.approx(3.0, abs=0.02)
    assert z.var().item() == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradients_stay_finite_at_the_bound_of_the_log_variance(build, images, dtype, sign):
    """Without a bound, exp(logvar) of an untrained or broken encoder overflows."""
    model = build(hidden_dim=16, latent_dim=4)
    with torch.no_grad():
        model.posterior.bias[4:] = sign * 1000.0
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = model(images, torch.ones(100, 4))
    assert output.logvar.unique().item() == (LOGVAR_MAX if sign > 0 else LOGVAR_MIN)
    loss = negative_elbo(output, images).loss.mean()
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_largest_variance_fits_in_half_precision():
    assert torch.tensor(LOGVAR_MAX, dtype=torch.float16).exp().isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_under_autocast_is_float32_and_close_to_the_exact_one(build, images, dtype):
    """Sigmoid and binary_cross_entropy under autocast would be refused by PyTorch."""
    model, noise = build(), torch.zeros(100, 32)
    with torch.autocast("cpu", dtype):
        loss = negative_elbo(model(images, noise), images).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, negative_elbo(model(images, noise), images).loss, rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 784), r"shape \(B, 1, 28, 28\).*got \(2, 784\)"),
        (torch.zeros(2, 1, 32, 32), r"got \(2, 1, 32, 32\)"),
        (torch.zeros(28, 28), r"got \(28, 28\)"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "expected float images.*uint8"),
    ],
)
def test_encode_refuses_images_of_another_shape_or_type(build, wrong, message):
    with pytest.raises(InputError, match=message):
        build().encode(wrong)


@pytest.mark.parametrize("shape", [(2, 31), (32,), (2, 32, 1)])
def test_decode_refuses_codes_of_another_shape(build, shape):
    with pytest.raises(InputError, match=r"expected z of shape \(B, 32\), got \("):
        build().decode(torch.zeros(*shape))


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"hidden_dim": 0}, {"image_shape": (28, 28)}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected latent_dim >= 1"):
        VAE(**wrong)


def test_every_model_of_the_configuration_can_be_built(build):
    names = ModelConfig.model_fields["name"].annotation.__args__
    assert set(names) == set(MODELS)
    with torch.random.fork_rng(devices=[]):
        for name in names:
            model = build_model(ModelConfig(name=name, latent_dim=3, hidden_dim=5), (1, 8, 8))
            assert (model.latent_dim, model.hidden_dim, model.image_shape) == (3, 5, (1, 8, 8))


def test_an_unknown_model_is_refused_by_name():
    config = ModelConfig.model_construct(name="gan", latent_dim=1, hidden_dim=1)
    with pytest.raises(ConfigError, match=r"model.name: expected one of vae, got 'gan'"):
        build_model(config)
