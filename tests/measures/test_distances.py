"""Distances of Gaussians, held against closed forms, torch.distributions and SciPy."""

from math import log

import pytest
import torch
from scipy.linalg import sqrtm
from torch.distributions import MultivariateNormal, kl_divergence

from vae_mnist.measures.distances import (
    Moments,
    frechet_distance,
    gaussian_kl,
    gaussian_total_correlation,
    moments_of,
)


def gaussian(dimensions, seed):
    """Some mean and covariance; of eigenvalues from 0.1 up."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    mean = torch.randn(dimensions, generator=generator, dtype=torch.float64)
    return Moments(mean, factor @ factor.T / dimensions + 0.1 * torch.eye(dimensions, dtype=torch.float64))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_moments_are_of_the_rows_in_double_precision(dimensions):
    points = 1000 + torch.randn(500, dimensions, generator=torch.Generator().manual_seed(0))
    mean, covariance = moments_of(points)
    away = points.double() - points.double().mean(0)
    torch.testing.assert_close(mean, points.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(covariance, away.T @ away / 500, rtol=1e-9, atol=1e-12)


def test_the_frechet_distance_of_independent_dimensions_is_that_of_their_deviations():
    one = Moments(torch.tensor([1.0, 2.0]).double(), torch.tensor([4.0, 9.0]).double().diag())
    other = Moments(torch.tensor([0.0, 4.0]).double(), torch.tensor([1.0, 0.0]).double().diag())
    assert frechet_distance(one, other) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 0) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dimensions", [1, 5, 40])
def test_the_frechet_distance_is_that_of_a_matrix_square_root(dimensions):
    one, other = gaussian(dimensions, 0), gaussian(dimensions, 1)
    root = torch.from_numpy(sqrtm((one.covariance @ other.covariance).numpy()).real)
    expected = (one.mean - other.mean).square().sum() + (one.covariance + other.covariance - 2 * root).trace()
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("dimensions", [1, 5, 40])
def test_the_kl_is_that_of_torch_distributions(dimensions):
    one, other = gaussian(dimensions, 0), gaussian(dimensions, 1)
    expected = kl_divergence(*(MultivariateNormal(each.mean, each.covariance) for each in (one, other)))
    assert gaussian_kl(one, other) == pytest.approx(expected.item(), rel=1e-9)
    assert gaussian_kl(one, one) == pytest.approx(0, abs=1e-12)


def test_the_total_correlation_is_the_kl_to_independent_dimensions():
    correlated = Moments(torch.zeros(2).double(), torch.tensor([[4.0, 1.8], [1.8, 1.0]]).double())
    assert gaussian_total_correlation(correlated) == pytest.approx(-0.5 * log(1 - 0.9**2))
    some = gaussian(5, 0)
    independent = Moments(some.mean, some.covariance.diagonal().diag())
    assert gaussian_total_correlation(some) == pytest.approx(gaussian_kl(some, independent), rel=1e-9)
    assert gaussian_total_correlation(independent) == pytest.approx(0, abs=1e-12)
