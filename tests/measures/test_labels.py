"""Measures of a conditional model: each image has its own label, however the images are taken apart."""

import math

import pytest
import torch

from vae_mnist.measures.bounds import average_terms, importance_weighted
from vae_mnist.measures.decomposition import decompose_rate
from vae_mnist.measures.latents import posterior_statistics
from vae_mnist.objectives import Elbo

from ..helpers.models import disturbed, small

LABELS = torch.arange(40) * 7 % 10


@pytest.fixture
def model():
    return disturbed(small(conditional=True), spread=0.1).eval()


def averaged(model, images, labels):
    return average_terms(model, Elbo(), images, labels, batch_size=7).loss


def weighted(model, images, labels):
    return importance_weighted(model, images, 30, labels, seed=0, chunk_size=90).nll


def kl(model, images, labels):
    return posterior_statistics(model, images, labels, batch_size=7)[1].sum().item()


def total_correlation(model, images, labels):
    return decompose_rate(model, images, labels, seed=0).total_correlation.mean


@torch.no_grad()
def test_they_agree_with_passes_of_all_images_at_once(model, images):
    images, drawn = images[:40], torch.randn(30, 40, 4, generator=torch.Generator().manual_seed(0))
    weights = model(images, drawn, LABELS).log_weights.double()
    expected = (math.log(30) - weights.logsumexp(0)).mean().item()
    assert weighted(model, images, LABELS) == pytest.approx(expected, rel=1e-6)
    posterior = model.encode(images, LABELS)
    assert kl(model, images, LABELS) == pytest.approx(posterior.kl_to_standard().sum(1).mean().item(), rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    passes = [
        Elbo()(model(part, torch.randn(1, len(part), 4, generator=generator), labels), torch.tensor(0)).loss
        for part, labels in zip(images.split(7), LABELS.split(7), strict=True)
    ]
    assert averaged(model, images, LABELS) == pytest.approx(torch.cat(passes).mean().item(), rel=1e-6)


@pytest.mark.parametrize("measure", [averaged, weighted, kl, total_correlation])
def test_they_depend_on_the_labels(monkeypatch, model, images, measure):
    monkeypatch.setattr("vae_mnist.measures.decomposition.BATCH_SIZE", 7)
    one, other = measure(model, images[:40], LABELS), measure(model, images[:40], LABELS.roll(1))
    assert one != pytest.approx(other, rel=1e-4)
