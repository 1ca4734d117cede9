"""Distances between two sets of codes or features, by the Gaussians with their means and covariances."""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Of a distribution over D dimensions."""

    mean: Tensor  # (D,) float64
    covariance: Tensor  # (D, D) float64, symmetric, without Bessel's correction


def moments_of(points: Tensor) -> Moments:
    """The moments of points (N, D), in double precision."""
    points = points.double()
    return Moments(points.mean(0), torch.cov(points.T, correction=0).reshape(2 * points.shape[1:]))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the squared Wasserstein distance of two Gaussians.

    Dowson & Landau (1982). C1^(1/2) C2 C1^(1/2) has the eigenvalues of C1 C2 and is symmetric, so that they are real.
    """
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    traces = one.covariance.trace() + other.covariance.trace()
    return float((one.mean - other.mean).square().sum() + traces - 2 * cross)


def gaussian_kl(one: Moments, other: Moments) -> float:
    """KL(N(m1, C1) || N(m2, C2)), nats.

    Raises:
        torch.linalg.LinAlgError: a covariance is not positive definite.
    """
    factor = torch.linalg.cholesky(other.covariance)
    squares = torch.linalg.solve_triangular(factor, torch.linalg.cholesky(one.covariance), upper=False).square().sum()
    away = torch.linalg.solve_triangular(factor, (other.mean - one.mean)[:, None], upper=False).square().sum()
    return float(0.5 * (squares + away - len(one.mean) + _log_det(other.covariance) - _log_det(one.covariance)))


def gaussian_total_correlation(moments: Moments) -> float:
    """KL(N(m, C) || prod_i N(m_i, C_ii)), nats: how much the dimensions depend on each other, as far as a Gaussian can.

    Raises:
        torch.linalg.LinAlgError: the covariance is not positive definite.
    """
    return float(0.5 * (moments.covariance.diagonal().log().sum() - _log_det(moments.covariance)))


def _log_det(covariance: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky(covariance)
    return 2 * factor.diagonal().log().sum()
