"""Images in another size and in colour, held to Pillow and to sums of integers."""

import numpy as np
import pytest
import torch
from PIL import Image

from vae_mnist.data.pixels import PART
from vae_mnist.data.shapes import AS_READ, DARKEST, draw_colours, redraw


@pytest.fixture(scope="module")
def image_set(sample_images):
    return sample_images[1]["images"][: PART + 50]


def test_images_as_they_are_read_are_not_even_copied(image_set):
    assert redraw(image_set, AS_READ) is image_set


@pytest.mark.parametrize("size", [32, 64, 128])
def test_resized_images_are_those_of_pillow_and_as_bright(image_set, size):
    resized = redraw(image_set, size)
    assert (resized.shape, resized.dtype) == ((len(image_set), 1, size, size), torch.uint8)
    pillow = [
        np.asarray(Image.fromarray(one.numpy()).resize((size, size), Image.Resampling.BILINEAR))
        for one in image_set[:, 0]
    ]
    assert np.abs(resized[:, 0].numpy().astype(int) - pillow).max() <= 1  # Pillow rounds twice
    assert resized.float().mean().item() == pytest.approx(image_set.float().mean().item(), rel=0.005)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_resized_images_are_exact_on_every_machine(image_set, size):
    """Weights as whole 64ths: no sum is rounded before the last step."""
    weights = np.zeros((size, 28), dtype=np.int64)
    for pixel in range(size):
        whole, part = divmod(896 * (2 * pixel + 1) // size - 32, 64)
        for place, weight in ((whole, 64 - part), (whole + 1, part)):
            weights[pixel, min(max(place, 0), 27)] += weight
    exact = weights @ image_set.numpy().astype(np.int64) @ weights.T / 64**2
    assert np.array_equal(redraw(image_set, size).numpy(), np.rint(exact))


def test_larger_images_are_shrunk_without_losing_pixels_between():
    noise = torch.randint(256, (3, 1, 200, 150), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pillow = [
        np.asarray(Image.fromarray(one.numpy()).resize((32, 32), Image.Resampling.BILINEAR)) for one in noise[:, 0]
    ]
    assert np.abs(redraw(noise, 32)[:, 0].numpy().astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("size", [AS_READ, 64])
def test_each_channel_is_the_grey_image_times_its_colour(image_set, size):
    colours = draw_colours(len(image_set))
    coloured = redraw(image_set, size, colours)
    assert (coloured.shape, coloured.dtype) == ((len(image_set), 3, size, size), torch.uint8)
    exact = redraw(image_set, size).double() * colours.view(-1, 3, 1, 1) / 255
    assert torch.equal(coloured, exact.round().byte())


def test_the_first_colours_are_the_same_for_any_number_of_images_and_on_every_machine():
    colours = draw_colours(70_000)
    assert colours[:5].tolist() == [[192, 64, 255], [99, 64, 255], [64, 255, 151], [255, 207, 64], [64, 205, 255]]
    assert torch.equal(draw_colours(100), colours[:100])


def test_colours_are_bright_saturated_and_of_every_hue_alike():
    colours = draw_colours(60_000)
    assert (colours.amax(1) == 255).all()
    assert (colours.amin(1) == DARKEST).all()
    sixths = torch.unique(colours.argsort(dim=1, stable=True), dim=0, return_counts=True)[1]
    assert sixths.min() > 9_500
    assert sixths.max() < 10_500


def test_drawing_colours_leaves_the_images_alone(image_set):
    before = image_set.clone()
    redraw(image_set, 32, draw_colours(len(image_set)))
    assert torch.equal(image_set, before)


def test_no_images_stay_none():
    assert redraw(torch.empty(0, 1, 28, 28, dtype=torch.uint8), 64, draw_colours(0)).shape == (0, 3, 64, 64)


def test_images_in_colour_become_grey_by_their_lightness():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(4, 3, 2, 5).contiguous()
    grey = redraw(images, 28, grey=True)
    assert grey.shape == (4, 1, 2, 5)
    assert grey[:, 0, 0, 0].tolist() == [76, 150, 29, 18]
    assert redraw(images, 28) is images
    assert torch.equal(redraw(grey, 28, grey=True), grey)
