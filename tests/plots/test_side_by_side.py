import numpy as np
import torch

from vae_mnist.plots import side_by_side


def test_rows_have_images_of_any_size_and_colour(caption, noise):
    """Each image is found on the page, pixel for pixel: those of 28 pixels three times as large, those of 64 once."""
    grey, colour = noise(8, 1, 28, 28), noise(8, 3, 64, 64)
    page = np.asarray(side_by_side({"mlp\nepoch 2": grey, "colour": colour}, caption)).astype(int)
    shades = np.rint(246 * (1 - grey.numpy()[7, 0])).astype(int).repeat(3, 0).repeat(3, 1)
    colours = np.rint(255 * colour.numpy()[0]).astype(int).transpose(1, 2, 0)

    def places(image, y):
        """Where the top row of an image is in a row of pixels."""
        row = page[y]
        return [x for x in range(len(row) - len(image[0])) if np.array_equal(row[x : x + len(image[0])], image[0])]

    shades = np.repeat(shades[..., None], 3, axis=2)
    tops = []
    for image in (shades, colours):
        ((x, y),) = [(x, y) for y in range(len(page) - len(image)) for x in places(image, y)[:1]][:1]
        assert np.array_equal(page[y : y + len(image), x : x + len(image)], image)
        tops.append(y)
    assert tops[1] - tops[0] > 84, "rows lie apart"


def test_a_row_without_images_says_why(caption, noise):
    why = "no samples: the checkpoint is damaged " * 20
    page = side_by_side({"a": noise(2, 1, 28, 28), "x" * 64: why}, caption)
    without = side_by_side({"a": noise(2, 1, 28, 28), "x" * 64: ""}, caption)
    assert page.size == without.size
    ink = np.asarray(without).astype(int) - np.asarray(page)
    assert ink.any()
    rows, columns = ink.any(2).nonzero()
    assert rows.max() - rows.min() < 45
    assert columns.max() < page.width - 8


def test_one_row_of_one_image(caption):
    assert side_by_side({"a": torch.zeros(1, 1, 28, 28)}, caption).width == 640
