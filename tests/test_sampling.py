import pytest
import torch

from vae_mnist import encode, interpolate, reconstruct, sample, traverse
from vae_mnist.errors import InputError

from .helpers.models import KINDS, disturbed, small


@pytest.fixture
def model():
    return small()


def test_samples_are_pixel_means_and_named_by_their_seed(model):
    image_set = sample(model, 3, seed=1)
    assert image_set.shape == (3, 1, 28, 28)
    assert 0 <= image_set.min() <= image_set.max() <= 1
    assert torch.equal(image_set, sample(model, 3, seed=1))
    assert not torch.equal(image_set, sample(model, 3, seed=2))


def test_many_samples_come_in_chunks_that_change_nothing(model):
    many = sample(model, 5000)
    codes = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many[4990:], model.decode(codes[4990:]).detach())


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_come_from_the_models_own_prior(prior, temperature):
    """Public code draws from N(0, I) whatever was learned."""
    model = disturbed(small(prior=prior))
    with torch.no_grad():
        codes = model.prior_now().draw(3, torch.Generator().manual_seed(1), temperature)
        torch.testing.assert_close(sample(model, 3, seed=1, temperature=temperature), model.decode(codes))
    assert not torch.allclose(codes, torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_model_can_be_sampled_encoded_and_walked_through(kind, images):
    model = small(**kind)
    assert sample(model, 2).shape == reconstruct(model, images[:2]).shape == (2, 1, 28, 28)
    assert traverse(model, encode(model, images[:1])[0], [0, 3], torch.tensor([-1.0, 1.0])).shape == (4, 1, 28, 28)


@pytest.mark.parametrize("count", [0, -1])
def test_no_samples_are_refused(model, count):
    with pytest.raises(InputError, match=f"expected at least 1, got {count}"):
        sample(model, count)


def test_interpolation_includes_both_ends(model):
    z1, z2 = torch.zeros(1, 4), torch.ones(1, 4)
    strip = interpolate(model, z1, z2, steps=8)
    assert strip.shape == (8, 1, 28, 28)
    torch.testing.assert_close(strip[:1], model.decode(z1).detach())
    torch.testing.assert_close(strip[-1:], model.decode(z2).detach())
    torch.testing.assert_close(strip[1:2], model.decode(torch.full((1, 4), 1 / 7)).detach())


def test_interpolation_takes_eight_steps_and_plain_vectors(model):
    assert interpolate(model, torch.zeros(4), torch.ones(4)).shape == (8, 1, 28, 28)


def test_one_step_is_no_interpolation(model):
    with pytest.raises(InputError, match="expected steps >= 2"):
        interpolate(model, torch.zeros(4), torch.ones(4), steps=1)


@pytest.mark.parametrize(("z1", "z2", "which"), [((2, 4), (1, 4), "z1"), ((1, 4), (1, 5), "z2")])
def test_ends_of_another_shape_are_refused(model, z1, z2, which):
    with pytest.raises(InputError, match=rf"interpolate: {which}: expected shape \(1, 4\) or \(4,\)"):
        interpolate(model, torch.zeros(z1), torch.zeros(z2))


def test_reconstruction_goes_by_way_of_the_posterior_mean(model, images):
    mean, logvar = encode(model, images)
    assert mean.shape == logvar.shape == (100, 4)
    torch.testing.assert_close(reconstruct(model, images), model.decode(mean).detach())


def test_8_bit_images_are_taken_as_they_are(model, sample_images):
    raw = sample_images[1]["images"][:5]
    torch.testing.assert_close(reconstruct(model, raw), reconstruct(model, raw.float() / 255))


@pytest.mark.parametrize("function", [encode, reconstruct])
def test_pixels_out_of_range_are_refused(model, function):
    with pytest.raises(InputError, match=r"expected floats in \[0, 1\], got 255"):
        function(model, torch.full((1, 1, 28, 28), 255.0))


def test_traversal_changes_one_dimension_at_a_time(model):
    z, values = torch.arange(4.0).view(1, 4), torch.tensor([-1.0, 5.0])
    images = traverse(model, z, [2, 0], values)
    assert images.shape == (4, 1, 28, 28)
    torch.testing.assert_close(images[1:2], model.decode(torch.tensor([[0.0, 1.0, 5.0, 3.0]])).detach())
    torch.testing.assert_close(images[2:3], model.decode(torch.tensor([[-1.0, 1.0, 2.0, 3.0]])).detach())


@pytest.mark.parametrize("dimensions", [[4], [0, -1]])
def test_a_traversal_of_dimensions_that_do_not_exist_is_refused(model, dimensions):
    with pytest.raises(InputError, match=r"traverse: expected dimensions of 0 to 3, got \["):
        traverse(model, torch.zeros(1, 4), dimensions, torch.zeros(2))


@pytest.mark.parametrize("shape", [(2, 4), (1, 9), (3,)])
def test_a_traversal_of_another_shape_is_refused(model, shape):
    with pytest.raises(InputError, match=r"traverse: z: expected shape \(1, 4\) or \(4,\), got "):
        traverse(model, torch.zeros(shape), [0], torch.zeros(2))


def test_the_mode_of_the_model_is_left_alone(model, images):
    for mode in (True, False):
        model.train(mode)
        reconstruct(model, images)
        sample(model, 2)
        assert model.training is mode


def test_results_can_be_used_where_gradients_flow(model, images):
    """Results of inference mode could not."""
    code = encode(model, images)[0].requires_grad_()
    model.decode(code).sum().backward()
    assert code.grad.isfinite().all()
