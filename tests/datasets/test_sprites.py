"""Sprites, held against exact areas and centroids, and against outlines drawn by matplotlib in floating point."""

import tracemalloc
from functools import cache
from hashlib import sha256
from itertools import combinations
from math import cos, pi, sin, sqrt

import pytest
import torch

from vae_mnist.datasets import sprites
from vae_mnist.datasets.sprites import FACTORS, SHAPES, SIDES, SIZES, make_sprites, render_sprites
from vae_mnist.errors import InputError

CELLS = 896  # in which sides of shapes are counted


@cache
def made(channels):
    """Both parts at the smallest size, where images differ least."""
    return make_sprites(28, channels)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def parts(request):
    return made(request.param)


def every_shape(x=4, y=4):
    """All shapes, scales and rotations in one place: (180, 5)."""
    turned = torch.cartesian_prod(*(torch.arange(FACTORS[name]) for name in ("shape", "scale", "rotation")))
    return torch.cat([turned, torch.tensor([[x, y]]).expand(180, 2)], dim=1)


@cache
def images_of_every_shape(size):
    return render_sprites(every_shape(), size, 1)


def exact_areas(factors):
    """Shares of the frame: (N,)."""
    return (torch.tensor(SIDES, dtype=torch.float64)[factors[:, 1]] / CELLS) ** 2


def areas(images):
    return images.double().mean(dim=(1, 2, 3)) / 255  # (N,)


def centroids(images):
    """x and y in shares of the frame: (N, 2)."""
    shares = images.double().mean(dim=1)  # (N, H, W)
    places = (torch.arange(shares.shape[2]) + 0.5).double() / shares.shape[2]
    return torch.stack([(shares.sum(dim) * places).sum(1) for dim in (1, 2)], 1) / shares.sum((1, 2))[:, None]


def outline(shape, side, degrees):
    """Points (N, 2) around a shape of area side^2, its centroid at 0, y upwards, as a complex curve."""
    t = torch.arange(0, 1, 1 / 400, dtype=torch.float64)
    turn = torch.tensor(complex(cos(pi * degrees / 180), sin(pi * degrees / 180)))
    if shape == "square":
        curve = side / 2 * torch.tensor([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j])
    elif shape == "ellipse":
        curve = side / sqrt(15 * pi) * torch.complex(5 * (2 * pi * t).cos(), 3 * (2 * pi * t).sin())
    else:  # the tip, then a half-circle on each upper edge of a square of edge 1, which stands on the tip
        edge = side / sqrt(1 + pi / 4)
        right, left = (
            middle + torch.polar(torch.full_like(t, 0.5), pi * (t + start))
            for middle, start in ((1 + 0.5j, -0.5), (0.5 + 1j, 0.0))
        )
        curve = torch.cat([torch.zeros(1), right, left]) * complex(sqrt(0.5), sqrt(0.5))
        height = sqrt(2) * (7 / 12 + 3 * pi / 16) / (1 + pi / 4)  # of the centroid: two half-discs and a square
        curve = edge * (curve - 1j * height)
    return torch.view_as_real(turn * curve)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rotation", "size"), [(0, 64), (3, 28), (8, 32)])
def test_shapes_agree_with_outlines_drawn_in_floating_point(shape, rotation, size):
    from matplotlib.path import Path

    factors = torch.tensor([[SHAPES.index(shape), 4, rotation, 2, 7]])
    image = render_sprites(factors, size, 1)[0, 0].double() / 255
    centre = torch.tensor([196 + 2 * 56, 196 + 7 * 56]) / CELLS * size
    points = outline(shape, 234 / CELLS * size, 9 * rotation) * torch.tensor([1, -1]) + centre
    fine = (torch.arange(8 * size) + 0.5).double() / 8
    inside = Path(points.numpy()).contains_points(torch.cartesian_prod(fine, fine).flip(1).numpy())
    expected = torch.from_numpy(inside).double().view(size, 8, size, 8).mean(dim=(1, 3))
    assert (image - expected).abs().max() < 0.13  # 64 points in a pixel: one line of 8 may be missed
    assert (image - expected).abs().sum() < 0.02 * expected.sum()


@pytest.mark.parametrize("size", SIZES)
def test_areas_are_exact_and_edges_grey(size):
    factors, images = every_shape(), images_of_every_shape(size)
    torch.testing.assert_close(areas(images), exact_areas(factors), rtol=0.01, atol=0)
    for image in images[factors[:, 2] % 5 > 0]:  # neither upright nor on a corner
        assert image.min() == 0
        assert image.max() == 255
        assert len(image.unique()) > 6


@pytest.mark.parametrize("size", SIZES)
def test_positions_are_those_of_the_centroid(size):
    factors = torch.cat([every_shape(x, y) for x, y in ((0, 0), (5, 0), (5, 9), (9, 9))])
    found = centroids(render_sprites(factors, size, 1))
    expected = (196 + 56 * factors[:, 3:].double()) / CELLS
    assert (found - expected).abs().max() < 0.6 / CELLS  # the lattice of cells


@pytest.mark.parametrize(("size", "pixels"), [(32, 2), (64, 4), (128, 8)])
def test_positions_move_an_image_by_whole_pixels(size, pixels):
    factors = torch.cat([every_shape(*place)[::7] for place in ((3, 5), (4, 5), (3, 6))])
    first, right, below = render_sprites(factors, size, 1).chunk(3)
    assert torch.equal(right, first.roll(pixels, dims=3))
    assert torch.equal(below, first.roll(pixels, dims=2))


def test_scales_change_the_area_quadratically():
    found = areas(images_of_every_shape(64)).view(3, 6, 10)
    ratios = found / found[:, -1:]
    expected = torch.tensor([0.25, 0.36, 0.49, 0.64, 0.81, 1.0]).double()[None, :, None].expand(3, 6, 10)
    torch.testing.assert_close(ratios, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_rotations_change_the_image_but_not_its_area(size):
    images = images_of_every_shape(size)
    found = areas(images).view(18, 10)
    torch.testing.assert_close(found, found[:, :1].expand(18, 10), rtol=0.01, atol=0)
    for turned in images.view(18, 10, -1):
        changes = (turned[1:].double() - turned[:-1].double()).abs().sum(1) / turned.double().sum(1).mean()
        assert changes.min() > 0.05


def test_hues_are_of_equal_value_and_change_nothing_but_colour():
    grey = torch.tensor([[2, 4, 3, 1, 8]]).expand(10, 5)
    coloured = render_sprites(torch.cat([grey, torch.arange(10)[:, None]], dim=1), 64, 3)
    assert torch.equal(coloured.amax(dim=1, keepdim=True), render_sprites(grey, 64, 1))
    colours = coloured.flatten(2).amax(dim=2).tolist()
    assert colours[:4] == [[255, 51, 51], [255, 173, 51], [214, 255, 51], [92, 255, 51]]  # by hand, from HSV
    assert len({tuple(colour) for colour in colours}) == 10


@pytest.mark.parametrize("rotation", range(10))
@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_shapes_stay_inside_their_box_and_it_inside_the_frame(shape, rotation):
    mask = sprites._mask(shape, SIDES[-1], rotation)
    assert mask.any()
    assert not any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    corners = torch.tensor([[SHAPES.index(shape), 5, rotation, x, y] for x in (0, 9) for y in (0, 9)])
    torch.testing.assert_close(areas(render_sprites(corners, 64, 1)), exact_areas(corners), rtol=0.005, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_scene_is_the_same_at_each_size(channels):
    factors = torch.cat([every_shape(6, 1), torch.arange(180)[:, None] % 10], dim=1)[::7, : 5 if channels == 1 else 6]
    large, middle, small = (render_sprites(factors, size, channels).float() for size in (128, 64, 32))
    for finer, coarser in ((large, middle), (middle, small)):
        assert (torch.nn.functional.avg_pool2d(finer, 2) - coarser).abs().max() <= 1  # each is rounded


def test_no_two_images_are_equal(parts):
    images = torch.cat([part["images"] for part in parts])
    assert len({sha256(image.numpy().data).digest() for image in images}) == 18_000


def test_the_parts_are_disjoint_and_together_the_grid(parts):
    train, test = ({tuple(row) for row in part["factors"][:, :5].tolist()} for part in parts)
    assert len(train) == 14_400
    assert len(test) == 3_600
    assert train | test == {
        tuple(row) for row in torch.cartesian_prod(*(torch.arange(n) for n in (3, 6, 10, 10, 10))).tolist()
    }


def test_any_two_factors_are_independent_and_uniform_in_each_part(parts):
    for part in parts:
        counts = list(FACTORS.values())[: part["factors"].shape[1]]
        for a, b in combinations(range(len(counts)), 2):
            pairs = (part["factors"][:, a] * counts[b] + part["factors"][:, b]).bincount(
                minlength=counts[a] * counts[b]
            )
            assert (pairs == len(part["factors"]) / (counts[a] * counts[b])).all(), (a, b)


def test_the_first_and_last_hundred_images_have_every_value(parts):
    for part in parts:
        for column, count in enumerate(list(FACTORS.values())[: part["factors"].shape[1]]):
            for rows in (part["factors"][:100, column], part["factors"][-100:, column]):
                assert len(rows.unique()) == count


def test_images_belong_to_their_factors_and_labels_are_shapes(parts):
    for part in parts:
        assert part["images"].dtype == torch.uint8
        assert part["labels"].dtype == part["factors"].dtype == torch.int64
        assert torch.equal(part["labels"], part["factors"][:, 0])
        rows = torch.tensor([0, 17, -1])
        channels = part["images"].shape[1]
        assert part["factors"].shape[1] == {1: 5, 3: 6}[channels]
        for row in rows:
            assert torch.equal(part["images"][row], render_sprites(part["factors"][row, None], 28, channels)[0])


def test_images_in_colour_are_in_the_place_of_the_grey_ones():
    for grey, coloured in zip(made(1), made(3), strict=True):
        assert torch.equal(grey["factors"], coloured["factors"][:, :5])


@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [
        (28, 1, "071ea36d8584ad587febed1c13abba1326c0fd8818a69f2060cadd2ea621884e"),
        (28, 3, "c0c6856121e4b8a09b1b0af3d0f8801c800216a50314feafd2e27f121bd0f772"),
        (32, 1, "fd691f8c05fdf8b7b2e8627ad0a7ddf1af67f2a04712f64008edfb1ee229b8c1"),
        (32, 3, "eda0ac1beae4d245783756f55f2c226d78807fd2e4459909d19010a8d5f40853"),
        (64, 1, "4224922b5fd66a45e361d2998ff0ebc648d0221f26015169baa36e12022348bc"),
        (64, 3, "e384c7a2181a769b5a5b5b4c157bb82756b1acd26448df17f96f244fd65012b6"),
        (128, 1, "a49ff375fd2c8fbc8971b5248d5be0912e0c20fc55fd0848cc8b0c2268d86fd5"),
        (128, 3, "e07363d8cc42c187903cf78ae508ed377861a818c648453a8d5f6a8d61862fc5"),
    ],
)
def test_images_have_the_same_bytes_on_every_machine(size, channels, expected):
    place = torch.arange(180)[:, None]
    factors = torch.cat([every_shape()[:, :3], place % 10, place // 18, place // 7 % 10], dim=1)[::3]
    images = render_sprites(factors[:, : 5 if channels == 1 else 6], size, channels)
    assert sha256(images.numpy().data).hexdigest() == expected


def test_the_whole_set_has_the_same_bytes_in_the_same_order():
    digest = sha256()
    for part in make_sprites(64, 1):
        for tensor in part.values():
            digest.update(tensor.numpy().data)
    assert digest.hexdigest() == "f2ace45d0a5d6e5a7c476b825aa112bdbec623921357dfe0c45e176caa86cc8e"


def test_memory_is_that_of_the_images_and_of_a_hundred_at_once():
    factors = torch.zeros(3000, 5, dtype=torch.int64)
    tracemalloc.start()
    try:
        size = render_sprites(factors, 128, 1).nbytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 3000 * 128 * 128
    assert peak < size + 30e6


def test_rows_may_repeat_and_come_in_any_order():
    factors = every_shape()[torch.tensor([7, 120, 7, 0, 179, 7])]
    assert torch.equal(render_sprites(factors, 32, 1), torch.cat([render_sprites(row[None], 32, 1) for row in factors]))
    assert render_sprites(factors[:0], 32, 1).shape == (0, 1, 32, 32)


def test_cosines_are_rounded_from_exact_ones():
    assert [round(65536 * cos(pi * turns / 20)) for turns in range(11)] == list(sprites.COSINES)


@pytest.mark.parametrize(("size", "channels"), [(30, 1), (0, 1), (28, 2)])
def test_other_sizes_and_channels_are_refused(size, channels):
    with pytest.raises(
        InputError, match=f"28, 32, 64, 128 pixels a side and 1 or 3 channels, got {size} and {channels}"
    ):
        make_sprites(size, channels)


@pytest.mark.parametrize(
    ("factors", "channels", "message"),
    [
        (torch.zeros(2, 5), 1, r"factors \(N, 5\) int64 for 1 channels, got \(2, 5\) torch.float32"),
        (torch.zeros(2, 5, dtype=torch.int64), 3, r"factors \(N, 6\) int64 for 3 channels, got \(2, 5\) torch.int64"),
        (
            torch.tensor([[0, 0, 0, 0, 0], [0, 6, 0, 0, 0]]),
            1,
            r"values of scale in 0\.\.5, got 6 in row 1 of the factors",
        ),
        (torch.tensor([[0, 0, 0, -1, 0]]), 1, r"values of x in 0\.\.9, got -1 in row 0 of the factors"),
        (torch.tensor([[0, 0, 0, 0, 0, 10]]), 3, r"values of hue in 0\.\.9, got 10 in row 0 of the factors"),
    ],
)
def test_wrong_factors_are_refused(factors, channels, message):
    with pytest.raises(InputError, match=message):
        render_sprites(factors, 28, channels)
