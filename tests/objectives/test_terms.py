"""What holds for every objective."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from vae_mnist.objectives import importance_weighted_nll

from ..helpers.models import OBJECTIVES, noise, objective, small

NOW = torch.tensor(0)


@pytest.fixture(params=OBJECTIVES)
def made(request):
    return objective(name=request.param)


def terms_of(made, images):
    model = small()
    result = model(images, noise(model, len(images), samples=made.samples))
    extra = torch.randn(len(images), made.noise_dim, generator=torch.Generator().manual_seed(1))
    return made(result, NOW, extra if made.noise_dim else None), result


def test_each_image_has_a_value_of_each_term(made, images):
    terms, _ = terms_of(made, images)
    values = [terms.loss, terms.distortion, terms.rate, terms.minimised, *terms.extra.values()]
    assert [value.shape for value in values] == [(100,)] * len(values)


def test_distortion_and_rate_are_sums_over_pixels_and_dimensions_not_averages(made, images):
    """Public code averages one and sums the other, which changes the weight of the rate by a factor of hundreds."""
    terms, result = terms_of(made, images)
    pixels = cross_entropy(result.outputs, images.expand_as(result.outputs), reduction="none")
    torch.testing.assert_close(terms.distortion, pixels.flatten(2).sum(2).mean(0))
    mean, logvar = result.posteriors[0]
    torch.testing.assert_close(terms.rate, 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1))


def test_the_loss_is_the_negative_bound_and_no_part_is_negated(made, images):
    """Public code logs the negative KL as KL, or the negative bound as the bound."""
    terms, result = terms_of(made, images)
    assert (terms.rate > 0).all()
    assert (terms.loss > 0).all()
    bound = importance_weighted_nll(result.log_weights).mean()
    offset = made.gamma * terms.extra["total_correlation"].mean() if hasattr(made, "gamma") else 0.0
    assert (terms.loss.mean() - offset).item() == pytest.approx(bound.item(), rel=0.01)
    for name in ("mutual_information", "dimension_wise_kl"):
        assert name not in terms.extra or terms.extra[name].mean() > 0
