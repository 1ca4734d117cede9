"""The model as a whole: shapes, bounds, and each part of a pass against torch.distributions."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from vae_mnist import VAE
from vae_mnist.errors import ConfigError, InputError
from vae_mnist.models.gaussian import LOGVAR_MAX, LOGVAR_MIN
from vae_mnist.models.mixture import VampPrior
from vae_mnist.objectives import Elbo

from ..helpers.models import KINDS, disturbed, noise, small

NOW = torch.tensor(0)


@pytest.fixture(params=KINDS, ids=str)
def model(request):
    return small(**request.param)


def test_the_default_model_is_that_of_the_origin():
    with torch.random.fork_rng(devices=[]):
        model = VAE(latent_dim=5)
    sizes = [(784, 512), (512, 10), (5, 512), (512, 784)]
    assert sum(weight.numel() for weight in model.parameters()) == sum((inputs + 1) * width for inputs, width in sizes)
    assert model.decode(torch.zeros(4, 5)).shape == (4, 1, 28, 28)


def test_a_pass_has_the_documented_shapes(model, images):
    result = model(images[:7], noise(model, 7, samples=3))
    assert result.outputs.shape == (3, 7, model.likelihood.outputs, 28, 28)
    assert result.nll.shape == (3, 7)
    assert result.log_q.shape == result.log_p.shape == (3, 7, len(model.groups))
    assert result.distortion.shape == result.rate.shape == (7,)
    assert result.log_weights.shape == (3, 7)
    first, *below = model.groups
    assert [q.mean.shape for q in result.posteriors] == [(7, first), *((3, 7, size) for size in below)]
    assert [z.shape for z in result.z] == [(3, 7, size) for size in model.groups]


def test_the_log_weights_are_those_of_torch_distributions(images):
    model, binary = small(), (images[:5] > 0.5).float()
    drawn = noise(model, 5, samples=6)
    mean, logvar = model.encode(binary)
    posterior, prior = Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)
    z = mean + torch.exp(0.5 * logvar) * drawn
    logits = model.network.decode(z.flatten(0, 1)).view(6, 5, 1, 28, 28)
    likelihood = Independent(Bernoulli(logits=logits), 3).log_prob(binary)
    expected = likelihood + prior.log_prob(z).sum(2) - posterior.log_prob(z).sum(2)
    torch.testing.assert_close(model(binary, drawn).log_weights, expected, rtol=1e-5, atol=1e-3)


def test_a_rate_without_a_closed_form_is_estimated_from_the_samples(images):
    """With N(0, I) both are known: the estimate must come near to the closed form."""
    model = small()
    result = model(images[:3], noise(model, 3, samples=20_000))
    estimate = (result.log_q - result.log_p).sum(-1).mean(0)
    torch.testing.assert_close(estimate, result.rate, rtol=0.03, atol=0.01)
    flow = small(prior="flow")(images[:3], noise(model, 3, samples=20_000))  # starts as N(0, I)
    assert flow.kl is None
    torch.testing.assert_close(flow.rate, flow.posteriors[0].kl_to_standard().sum(1), rtol=0.03, atol=0.01)


def test_the_samples_of_a_pass_share_their_image(model, images):
    three = model(images[:4], noise(model, 4, samples=3))
    for sample, drawn in enumerate(noise(model, 4, samples=3)):
        one = model(images[:4], drawn[None])
        torch.testing.assert_close(three.nll[sample], one.nll[0], rtol=1e-5, atol=1e-3)


def test_decoded_pixels_lie_in_the_unit_interval(model):
    pixels = disturbed(model).decode(torch.full((4, 4), 50.0))
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradients_stay_finite_at_the_bound_of_the_log_variance(model, images, dtype, sign):
    """Without a bound, exp(logvar) of an untrained or broken encoder overflows."""
    if dtype == torch.float16 and model.likelihood.outputs == 2:
        pytest.skip("the gradient of a narrow logistic overflows as well; training then skips the step")
    with torch.no_grad():
        model.network.posterior.bias[4:] = sign * 1000.0
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        result = model(images, torch.ones(1, 100, model.noise_dim))
    assert result.posteriors[0].logvar.unique().item() == (LOGVAR_MAX if sign > 0 else LOGVAR_MIN)
    loss = Elbo()(result, NOW).loss.mean()
    loss.backward()
    assert loss.isfinite()
    if dtype == torch.float16 and isinstance(model.prior, VampPrior):
        return  # from one almost-point to another the gradient is beyond float16; the gradient scaler skips such a step
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_float32_and_close_to_the_exact_ones(model, images, dtype):
    """Sigmoid and binary_cross_entropy under autocast would be refused by PyTorch."""
    drawn = torch.zeros(1, 100, model.noise_dim)
    with torch.autocast("cpu", dtype):
        half = Elbo()(model(images, drawn), NOW)
    exact = Elbo()(model(images, drawn), NOW)
    assert half.loss.dtype == half.rate.dtype == torch.float32
    torch.testing.assert_close(half.loss, exact.loss, rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 784), r"shape \(B, 1, 28, 28\).*got \(2, 784\)"),
        (torch.zeros(2, 1, 32, 32), r"got \(2, 1, 32, 32\)"),
        (torch.zeros(28, 28), r"got \(28, 28\)"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "expected float images.*uint8"),
    ],
)
def test_encode_refuses_images_of_another_shape_or_type(wrong, message):
    with pytest.raises(InputError, match=message):
        small().encode(wrong)


@pytest.mark.parametrize("shape", [(2, 3), (4,), (2, 4, 1)])
def test_decode_refuses_codes_of_another_shape(shape):
    with pytest.raises(InputError, match=r"expected z of shape \(N, 4\), got \("):
        small().decode(torch.zeros(*shape))


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"image_shape": (28, 28)}, {"image_shape": (1, 0, 28)}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected latent_dim >= 1"):
        VAE(**wrong)
