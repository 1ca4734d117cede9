"""Models that are given the label."""

import pytest
import torch

from vae_mnist import encode, interpolate, reconstruct, sample, traverse
from vae_mnist.errors import InputError

from ..helpers.models import disturbed, noise, small

LABELS = torch.tensor([3, 0, 9])


@pytest.fixture(params=["mlp", "conv", "residual", "ladder"])
def model(request):
    return disturbed(small(network=request.param, conditional=True), spread=0.1)


def test_posterior_and_pixels_depend_on_the_label(model, images):
    drawn = noise(model, 3)
    one, other = model(images[:3], drawn, LABELS), model(images[:3], drawn, (LABELS + 1) % 10)
    assert not torch.allclose(one.posteriors[0].mean, other.posteriors[0].mean)
    codes = torch.zeros(3, 4)
    assert not torch.allclose(model.decode(codes, LABELS), model.decode(codes, (LABELS + 1) % 10))


def test_each_image_of_a_pass_of_several_samples_has_its_own_label(model, images):
    drawn = noise(model, 3, samples=2)
    both = model(images[:3], drawn, LABELS)
    for index in range(3):
        one = model(images[index : index + 1], drawn[:, index : index + 1], LABELS[index : index + 1])
        torch.testing.assert_close(one.nll[:, 0], both.nll[:, index], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(one.rate[0], both.rate[index], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 2]), torch.tensor([1.0, 2.0, 3.0])])
def test_labels_are_needed_one_an_image_and_whole_numbers(model, images, labels):
    with pytest.raises(InputError, match="expects int64 labels of 0 to 9, one for each of the 3, got "):
        model(images[:3], noise(model, 3), labels)


def test_a_model_that_is_not_conditional_ignores_the_labels_of_a_batch(images):
    model = small()
    torch.testing.assert_close(
        model(images[:3], noise(model, 3), LABELS).nll, model(images[:3], noise(model, 3)).nll, rtol=0, atol=0
    )


def test_samples_are_of_the_class_that_is_asked_for(model):
    of_three = sample(model, 2, labels=3)
    assert torch.equal(of_three, sample(model, 2, labels=[3, 3]))
    assert not torch.allclose(of_three, sample(model, 2, labels=[3, 4]))
    assert torch.equal(sample(model, 12), sample(model, 12, labels=[*range(10), 0, 1]))


@pytest.mark.parametrize("labels", [10, -1, [1, 2, 3], [0.5, 11]])
def test_classes_that_do_not_exist_are_refused(model, labels):
    with pytest.raises(InputError, match="labels: expected 2 of 0 to 9, got"):
        sample(model, 2, labels=labels)


def test_labels_are_refused_where_they_mean_nothing():
    with pytest.raises(InputError, match="expected none, because the model is not conditional"):
        sample(small(), 2, labels=3)


def test_paths_keep_their_class(model, images):
    codes, _ = encode(model, images[:2], LABELS[:2])
    path = interpolate(model, codes[0], codes[1], 3, labels=7)
    ends = model.decode(codes[:, :4], torch.tensor([7, 7])).detach()
    torch.testing.assert_close(path[[0, -1]], ends)
    classes = torch.tensor([7, 3, 3])
    changing = interpolate(model, codes[0], codes[1], 3, labels=classes)  # one a step
    torch.testing.assert_close(changing[0], ends[0])
    torch.testing.assert_close(changing[1], interpolate(model, codes[0], codes[1], 3, labels=3)[1])


def test_a_traversal_keeps_its_class(model):
    walk = traverse(model, torch.zeros(1, 4), [1], torch.tensor([0.0, 2.0]), labels=7)
    codes = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    torch.testing.assert_close(walk, model.decode(codes, torch.tensor([7, 7])).detach())


def test_a_path_and_a_traversal_need_a_class(model):
    """Each class in turn would change the class from one image to the next."""
    for walk in (
        lambda: interpolate(model, torch.zeros(4), torch.ones(4)),
        lambda: traverse(model, torch.zeros(1, 4), [0], torch.zeros(8)),
    ):
        with pytest.raises(InputError, match=r"labels: expected 0 to 9, one for all or 8, .*got none"):
            walk()


def test_reconstructions_are_given_their_label(model, images):
    codes, _ = encode(model, images[:3], LABELS)
    torch.testing.assert_close(reconstruct(model, images[:3], LABELS), model.decode(codes, LABELS).detach())
