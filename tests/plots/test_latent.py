import pytest
import torch

from vae_mnist.plots import latent_map
from vae_mnist.plots.latent import principal_components


def drawn(figure):
    """The map's axes, as they are once drawn."""
    figure.draw_without_rendering()
    return figure.axes[0]


def test_principal_components_are_those_of_the_singular_value_decomposition():
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.1])
    found, shares = principal_components(points)
    centred = points.double() - points.double().mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    torch.testing.assert_close(found.abs(), expected.abs())
    assert shares == pytest.approx((values.square() / values.square().sum())[:2].tolist())


def test_principal_components_do_not_flip():
    """The largest weight of each direction is positive, whatever sign the eigenvectors came with."""
    for seed in range(20):
        points = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed))
        components, _ = principal_components(points)
        weights = (points.double() - points.double().mean(0)).T @ components  # (3, 2), in proportion to the directions
        assert (weights.gather(0, weights.abs().argmax(0, keepdim=True)) > 0).all()


def test_one_latent_dimension_can_be_mapped(caption):
    components, shares = principal_components(torch.arange(4.0).view(4, 1))
    assert components.shape == (4, 2)
    assert shares == (1.0, 0.0)
    axes = drawn(latent_map(torch.arange(4.0).view(4, 1), torch.arange(4), caption))
    assert axes.collections[0].get_offsets().tolist() == [[-1.5, 0], [-0.5, 0], [0.5, 0], [1.5, 0]]
