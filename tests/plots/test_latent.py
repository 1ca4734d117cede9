import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from vae_mnist.plots import latent_map
from vae_mnist.plots.latent import class_colours, principal_components


def drawn(figure):
    """The map's axes, as they are once drawn."""
    figure.draw_without_rendering()
    return figure.axes[0]


def classes(count, each=20):
    labels = torch.arange(count).repeat(each)
    return torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0)), labels


def words(figure):
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("count", [2, 10, 11, 47])
def test_every_point_has_the_colour_of_its_class_and_every_class_its_name(caption, count):
    means, labels = classes(count)
    figure = latent_map(means, labels, caption)
    axes, colours = drawn(figure), np.array([to_rgb(colour) for colour in class_colours(count)])
    assert np.allclose(axes.collections[0].get_facecolors()[:, :3], colours[labels.numpy()])
    names = [str(number) for number in range(count)]
    assert [text.get_text() for text in axes.texts] == names
    assert words(figure)[-count:] == names
    assert [to_rgb(text.get_color()) for text in figure.texts[-count:]] == [tuple(colour) for colour in colours]


@pytest.mark.parametrize("count", [10, 47])
def test_the_key_lies_between_caption_and_map(caption, count):
    means, labels = classes(count)
    figure = latent_map(means, labels, caption)
    axes, boxes = drawn(figure), [text.get_window_extent() for text in figure.texts]
    subtitle, key = boxes[1], boxes[-count:]
    assert all(axes.bbox.y1 < box.y0 and box.y1 < subtitle.y0 for box in key)
    assert all(box.x0 >= 28 and box.x1 <= figure.bbox.x1 - 28 for box in key)
    assert not any(one.overlaps(other) for index, one in enumerate(key) for other in key[index + 1 :])


def test_classes_are_named_by_their_names_on_one_line_and_without_formulas(caption):
    means, labels = classes(3)
    names = ["Ankle boot", "a\nb $x$", "n" * 60]
    figure = latent_map(means, labels, caption, names.__getitem__)
    shown = ["Ankle boot", r"a b \$x\$", "n" * 23 + "…"]
    assert [text.get_text() for text in drawn(figure).texts] == shown
    boxes = [text.get_window_extent() for text in figure.texts[-3:]]
    assert words(figure)[-3:] == shown
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[index + 1 :])


def test_images_without_classes_make_a_map_without_names(caption):
    figure = latent_map(torch.eye(20), torch.zeros(20, dtype=torch.int64), caption)
    assert not drawn(figure).texts
    assert words(figure)[-1] == "some images: 3 training + 2 test images (files under here)"


def test_colours_of_many_classes_differ_and_the_first_stay_as_they_are():
    colours = np.array([to_rgb(colour) for colour in class_colours(62)])
    gaps = np.linalg.norm(colours[:, None] - colours, axis=2) + 9 * np.eye(62)
    assert gaps.min() > 0.15
    assert class_colours(62)[:11] == class_colours(11)


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
