"""The likelihoods: what all of them keep to, and each against hand-computed values and torch.distributions."""

import math

import pytest
import torch
from torch import distributions
from torch.nn import functional

from vae_mnist.models.build import build_likelihood
from vae_mnist.models.continuous_bernoulli import ContinuousBernoulli, log_normaliser, mean_of
from vae_mnist.models.discretised_logistic import LOG_SCALE_MAX, LOG_SCALE_MIN, DiscretisedLogistic
from vae_mnist.models.gaussian_pixels import LOG_SCALE_MIN as GAUSSIAN_MIN
from vae_mnist.models.gaussian_pixels import GaussianPixels
from vae_mnist.models.likelihoods import Bernoulli, _BernoulliNll, loss_words

from ..helpers.models import LIKELIHOODS, model_config

GENERATOR = torch.Generator().manual_seed(1)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def grey(*shape):
    """Random 8-bit pixels, with many black and white ones."""
    return torch.randint(-100, 356, shape, generator=GENERATOR).clamp(0, 255) / 255


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=LIKELIHOODS)
def likelihood(request):
    return build_likelihood(model_config(likelihood=request.param), 1)


def nll_of_pixels(likelihood, outputs, pixels):
    """-log p of each pixel of (P,), given outputs of one pixel, (outputs,)."""
    outputs = outputs.view(1, 1, -1, 1, 1).expand(1, len(pixels), -1, 1, 1)
    return likelihood.nll(outputs, pixels.view(-1, 1, 1, 1))[0]


def test_nll_is_float32_of_each_sample_and_image_and_adds_up_pixels_and_channels(likelihood):
    outputs, images = random(2, 3, likelihood.outputs * 2, 4, 5), grey(3, 2, 4, 5)
    value = likelihood.nll(outputs, images)
    assert (value.shape, value.dtype) == ((2, 3), torch.float32)
    channels = outputs.unflatten(2, (likelihood.outputs, 2))  # outputs x C: the first output of both channels first
    each = sum(
        likelihood.nll(channels[:, :, :, channel, i : i + 1, j : j + 1], images[:, channel, None, i : i + 1, j : j + 1])
        for channel in range(2)
        for i in range(4)
        for j in range(5)
    )
    torch.testing.assert_close(value, each, rtol=1e-5, atol=1e-4)
    assert likelihood.mean(outputs[0]).shape == likelihood.draw(outputs[0], seeded()).shape == (3, 2, 4, 5)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_widened_first_and_autocast_changes_nothing(likelihood, half):
    outputs, images = random(1, 4, likelihood.outputs, 28, 28).to(half), grey(4, 1, 28, 28)
    exact, means = likelihood.nll(outputs.float(), images), likelihood.mean(outputs[0].float())
    with torch.autocast("cpu", half):
        value = likelihood.nll(outputs, images)
        assert value.dtype == likelihood.mean(outputs[0]).dtype == torch.float32
        torch.testing.assert_close(value, exact, rtol=0, atol=0)
        torch.testing.assert_close(likelihood.mean(outputs[0]), means, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1e-3, 0.5, 30.0, 1e3, 65_504.0])
def test_extreme_outputs_have_finite_losses_gradients_means_and_draws(likelihood, scale):
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 2).T[: likelihood.outputs]
    outputs = (scale * signs).view(1, 1, likelihood.outputs, 1, -1).clone().requires_grad_()
    for pixel in (0.0, 1 / 255, 0.5, 1.0):
        loss = likelihood.nll(outputs, torch.full((1, 1, 1, 9), pixel)).sum()
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert loss.isfinite()
        assert gradient.isfinite().all()
    for pixels in (likelihood.mean(outputs[0]), likelihood.draw(outputs[0].detach(), seeded())):
        assert pixels.min() >= 0
        assert pixels.max() <= 1


def test_outputs_of_means_give_these_means_and_stay_finite_where_a_pixel_is_always_black(likelihood):
    means = torch.tensor([[0.0, 0.02, 0.3], [0.5, 0.9, 1.0]]).view(2, 1, 3)
    outputs = likelihood.outputs_of(means)
    assert outputs.shape == (2 * likelihood.outputs, 1, 3)
    assert outputs.isfinite().all()
    edge = 0.011 if isinstance(likelihood, ContinuousBernoulli) else 1.1e-3
    found = likelihood.mean(outputs)
    torch.testing.assert_close(found, means, rtol=0, atol=edge)
    torch.testing.assert_close(found[[0, 0, 1, 1], 0, [1, 2, 0, 1]], torch.tensor([0.02, 0.3, 0.5, 0.9]))


@pytest.mark.parametrize("outputs", [[-1.0, -2.0], [0.1, -3.0], [0.9, 0.5]])
def test_the_mean_is_that_of_many_draws(likelihood, outputs):
    if isinstance(likelihood, GaussianPixels):
        with torch.no_grad():
            likelihood.free_log_scale.fill_(-3)  # so narrow that no draw leaves [0, 1]
    one = torch.tensor(outputs[: likelihood.outputs]).view(1, -1, 1, 1)
    draws = likelihood.draw(one.expand(40_000, -1, 1, 1), seeded())
    tolerance = 4 * draws.std().item() / 200 + 1 / 510
    assert draws.mean().item() == pytest.approx(likelihood.mean(one).item(), abs=tolerance)


# Bernoulli


@pytest.mark.parametrize("width", [1, 28, 126, 127, 300])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 30.0, 1e4])
def test_bernoulli_nll_and_its_gradient_are_those_of_torch_in_double_precision(width, scale):
    logits, pixels = scale * random(2, 3, 2, 4, width), torch.rand(3, 2, 4, width, generator=GENERATOR)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, 1.0]])
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    value = Bernoulli().nll(ours, pixels)
    each = functional.binary_cross_entropy_with_logits(theirs, pixels.double().expand_as(theirs), reduction="none")
    torchs = each.flatten(2).sum(2)
    torch.testing.assert_close(value.double(), torchs, rtol=1e-6, atol=1e-6)
    (value * weights).sum().backward()
    (torchs * weights.double()).sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-6, atol=2e-7)


def test_bernoulli_nll_can_be_differentiated_twice_and_by_its_images():
    logits, pixels = random(2, 2, 1, 3, 4).double(), torch.rand(2, 1, 3, 4, generator=GENERATOR).double()
    inputs = logits.requires_grad_(), pixels.requires_grad_()
    with torch.random.fork_rng():
        assert torch.autograd.gradcheck(_BernoulliNll.apply, inputs)
        assert torch.autograd.gradgradcheck(_BernoulliNll.apply, inputs)


def test_bernoulli_draws_are_black_or_white_with_the_means_as_probability():
    logits = torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2).expand(20_000, 1, 1, 2)
    draws = Bernoulli().draw(logits, seeded())
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    means = Bernoulli().mean(logits)[0].flatten().tolist()
    assert draws.mean(0).flatten().tolist() == pytest.approx(means, abs=0.01)


def test_grey_cross_entropy_is_not_called_a_likelihood():
    """Over all grey values its exponential does not integrate to 1, a mistake seen in public code."""
    pixels = torch.linspace(0, 1, 1001)
    density = torch.exp(-nll_of_pixels(Bernoulli(), torch.tensor([0.3]), pixels))
    assert torch.trapezoid(density, pixels).item() < 0.6
    assert "no density of grey images" in Bernoulli().words
    assert Bernoulli().pixels == "binary"


def test_losses_say_what_the_pixels_are():
    assert loss_words("grey pixels", "none") == "grey pixels"
    assert "drawn anew" in loss_words("grey pixels", "dynamic")
    assert "drawn once" in loss_words("grey pixels", "static")


# Continuous Bernoulli


@pytest.mark.parametrize("logit", [-200.0, -5.0, -0.6, -0.4, -1e-3, 0.0, 1e-8, 0.49, 0.51, 3.0, 200.0])
def test_continuous_bernoulli_integrates_to_one_and_has_the_mean_it_says(logit):
    pixels = torch.linspace(0, 1, 200_001)
    density = torch.exp(-nll_of_pixels(ContinuousBernoulli(), torch.tensor([logit]), pixels)).double()
    assert torch.trapezoid(density, pixels.double()).item() == pytest.approx(1, abs=1e-5)
    mean = torch.trapezoid(density * pixels, pixels.double()).item()
    assert ContinuousBernoulli().mean(torch.tensor(logit)).item() == pytest.approx(mean, abs=1e-5)


def test_continuous_bernoulli_is_that_of_torch_distributions():
    """Away from lambda = 1/2, where PyTorch takes a Taylor series, and from 0 and 1, where it bounds lambda."""
    logits, pixels = 4 * random(2, 50, 1, 4, 4), grey(50, 1, 4, 4)
    torchs = distributions.ContinuousBernoulli(logits=logits.double(), lims=(0.4999, 0.5001))
    expected = -torchs.log_prob(pixels.double()).flatten(2).sum(2)
    torch.testing.assert_close(ContinuousBernoulli().nll(logits, pixels).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ContinuousBernoulli().mean(logits).double(), torchs.mean, rtol=0, atol=1e-5)


def test_the_normaliser_is_exact_and_its_derivative_is_the_mean_also_near_one_half():
    """The closed forms subtract nearly equal numbers there; double precision far from 0 is the reference."""
    exact = torch.tensor([-50.0, -2.0, -0.501, -0.499, -1e-2, -1e-4, 1e-9, 1e-3, 0.3, 0.499, 0.501, 9.0]).double()
    reference = [math.log(math.fsum(math.exp(x * (i + 0.5) / 40_000) for i in range(40_000)) / 40_000) for x in exact]
    torch.testing.assert_close(log_normaliser(exact), torch.tensor(reference).double(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(log_normaliser(exact.float()).double(), log_normaliser(exact), rtol=1e-6, atol=1e-7)
    inputs = exact.clone().requires_grad_()
    assert torch.autograd.gradcheck(log_normaliser, inputs)
    assert torch.autograd.gradcheck(mean_of, inputs)
    single = exact.float().requires_grad_()
    (derivative,) = torch.autograd.grad(log_normaliser(single).sum(), single)
    torch.testing.assert_close(derivative.double(), mean_of(exact), rtol=0, atol=5e-7)
    torch.testing.assert_close(mean_of(exact.float()).double(), mean_of(exact), rtol=0, atol=5e-7)


def test_a_pixel_that_is_always_black_has_no_infinite_density():
    nll = [nll_of_pixels(ContinuousBernoulli(), torch.tensor([logit]), torch.zeros(1)).item() for logit in (-510, -1e6)]
    assert nll == pytest.approx([-math.log(510)] * 2)


@pytest.mark.parametrize("logit", [-30.0, -1.0, 0.0, 1e-5, 2.0, 30.0])
def test_continuous_bernoulli_draws_have_its_distribution_function(logit):
    draws = ContinuousBernoulli().draw(torch.full((20_000, 1, 1, 1), logit), seeded()).flatten().sort().values.double()
    rank = (torch.arange(20_000) + 0.5) / 20_000
    distribution = draws if abs(logit) < 1e-3 else torch.expm1(logit * draws) / math.expm1(logit)
    assert (distribution - rank).abs().max() < 1.63 / 20_000**0.5  # Kolmogorov & Smirnov, 1 %


# Gaussian


def test_gaussian_nll_is_that_of_torch_distributions():
    likelihood, logits, pixels = GaussianPixels(), random(2, 3, 2, 4, 5), grey(3, 2, 4, 5)
    with torch.no_grad():
        likelihood.free_log_scale.fill_(-1.5)
    normal = distributions.Normal(torch.sigmoid(logits), likelihood.log_scale.exp())
    expected = -normal.log_prob(pixels).flatten(2).sum(2)
    torch.testing.assert_close(likelihood.nll(logits, pixels), expected)
    logits, weight = logits.double().requires_grad_(), likelihood.free_log_scale
    likelihood.nll(logits, pixels).sum().backward()
    shift = 1e-2
    with torch.no_grad():
        above, below = (
            (weight.copy_(-1.5 + step), likelihood.nll(logits, pixels).sum().item())[1] for step in (shift, -shift)
        )
    assert weight.grad.item() == pytest.approx((above - below) / (2 * shift), rel=2e-3)


def test_gaussian_draws_have_the_learned_scale():
    likelihood = GaussianPixels()
    with torch.no_grad():
        likelihood.free_log_scale.fill_(-2.5)
    draws = likelihood.draw(torch.zeros(20_000, 1, 1, 1), seeded())
    assert draws.std().item() == pytest.approx(likelihood.log_scale.exp().item(), rel=0.03)
    assert 0.05 < draws.std().item() < 0.15


def test_the_learned_scale_goes_to_the_error_of_the_means_and_not_below_the_distance_of_grey_levels():
    """A decoder that copies black images exactly would otherwise have an infinite density."""
    for error, expected in ((0.1, math.log(0.1)), (0.0, GAUSSIAN_MIN)):
        likelihood, logits = GaussianPixels(), torch.zeros(1, 1, 1, 28, 28)
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
        for _ in range(1000):
            optimizer.zero_grad()
            likelihood.nll(logits, torch.full((1, 1, 28, 28), 0.5 + error)).sum().backward()
            optimizer.step()
        assert likelihood.log_scale.item() == pytest.approx(expected, abs=0.02)
        with torch.no_grad():
            likelihood.free_log_scale.fill_(-1e6)
        assert likelihood.log_scale.item() == pytest.approx(GAUSSIAN_MIN)


# Discretised logistic

LOCATIONS = [-40.0, -1.0, -0.3, 0.0, 0.996, 3.0]
LOG_SCALES = [-50.0, LOG_SCALE_MIN, -4.0, -1.0, 0.0, 3.0, 50.0]
LEVELS = torch.arange(256) / 255


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_levels_have_the_probabilities_of_their_intervals_which_sum_to_one(location, log_scale):
    nll = nll_of_pixels(DiscretisedLogistic(), torch.tensor([location, log_scale]), LEVELS).double()
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=2e-4)
    bounded = min(max(log_scale, LOG_SCALE_MIN), LOG_SCALE_MAX)
    logistic = distributions.TransformedDistribution(
        distributions.Uniform(torch.tensor(0.0).double(), 1.0, validate_args=False),
        [
            distributions.SigmoidTransform().inv,
            distributions.AffineTransform(torch.tensor(location).double(), math.exp(bounded)),
        ],
    )
    edges = (torch.arange(1, 256).double() - 0.5) / 127.5 - 1
    below = torch.cat([torch.zeros(1), logistic.cdf(edges), torch.ones(1)])
    expected = below.diff()
    clear = expected > 1e-6  # differences of near numbers say no more
    torch.testing.assert_close(torch.exp(-nll)[clear], expected[clear], rtol=2e-3, atol=0)


def test_improbable_levels_keep_finite_and_exact_losses_and_gradients():
    """A difference of distribution functions would be 0, and its logarithm infinite."""
    outputs = torch.tensor([0.9, -6.0], requires_grad=True)
    loss = nll_of_pixels(DiscretisedLogistic(), outputs, torch.tensor([3 / 255]))
    scale = math.exp(-6)
    upper = ((3.5 / 127.5 - 1) - 0.9) / scale  # s(u) - s(l) is exp(u) (1 - exp(l - u)) far below
    assert loss.item() == pytest.approx(-(upper + math.log1p(-math.exp(-1 / 127.5 / scale))), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert gradient[0].item() == pytest.approx(1 / scale, rel=1e-4)


def test_gradients_of_all_likelihoods_are_those_of_finite_differences(likelihood):
    outputs, pixels, step = 0.5 * random(1, 1, likelihood.outputs, 4, 4), grey(1, 1, 4, 4), 2e-2
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.nll(outputs, pixels).sum(), outputs)
    for place in range(outputs.numel()):
        shift = torch.zeros_like(outputs).flatten().index_fill(0, torch.tensor(place), step).view_as(outputs)
        above, below = (likelihood.nll(outputs.detach() + sign * shift, pixels).item() for sign in (1, -1))
        assert gradient.flatten()[place].item() == pytest.approx((above - below) / (2 * step), rel=5e-3, abs=5e-3)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_mean_of_the_levels_is_met_within_half_a_level(location, log_scale):
    outputs = torch.tensor([location, log_scale])
    probabilities = torch.exp(-nll_of_pixels(DiscretisedLogistic(), outputs, LEVELS))
    mean = DiscretisedLogistic().mean(outputs.view(1, 2, 1, 1)).item()
    assert mean == pytest.approx((probabilities * LEVELS).sum().item(), abs=1 / 510 + 2e-4)


def test_draws_of_levels_have_their_probabilities():
    outputs = torch.tensor([-0.9, -2.5])
    draws = DiscretisedLogistic().draw(outputs.view(1, 2, 1, 1).expand(100_000, 2, 1, 1), seeded())
    levels = draws.flatten() * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    counts = torch.bincount(levels.round().long(), minlength=256)
    expected = 100_000 * torch.exp(-nll_of_pixels(DiscretisedLogistic(), outputs, LEVELS))
    common = expected > 50
    chi = ((counts - expected).square() / expected)[common].sum() / common.sum()
    assert common.sum() > 40
    assert chi < 1.5
