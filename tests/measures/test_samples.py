"""Measures of made images, held against loops in double precision, closed forms, and what must come out."""

import subprocess
import sys
from math import comb, log, nan, sqrt

import pytest
import torch

from vae_mnist.errors import InputError
from vae_mnist.measures.distances import frechet_distance, moments_of
from vae_mnist.measures.samples import (
    class_measures,
    kernel_distance,
    measure_samples,
    neighbour_measures,
    unbiased_mmd,
)
from vae_mnist.training.memory import peak_bytes


def gaussian(count, dimensions=4, seed=0, mean=0.0, scale=1.0):
    return mean + scale * torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def clouds(count, seed=0, classes=10):
    """Features of `classes` classes far apart, equally many of each."""
    places = 10 * torch.randn(10, 8, generator=torch.Generator().manual_seed(99))
    return places[torch.arange(count) % classes] + gaussian(count, 8, seed)


def grid(count, seed, dimensions=3):
    """Features with many equal distances, and the same features more than once."""
    return torch.randint(4, (count, dimensions), generator=torch.Generator().manual_seed(seed)).float()


def by_name(measures):
    return {each.name: each for each in measures}


def values(measures):
    return {each.name: each.value for each in measures}


def in_loops(real, made):
    """Precision, recall, density and coverage as their papers define them."""

    def distance(x, y):
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))

    def radius(points, at, k):
        return sorted(distance(points[at], other) for i, other in enumerate(points) if i != at)[k - 1]

    real, made = real.double().tolist(), made.double().tolist()
    three, five = ([radius(real, i, k) for i in range(len(real))] for k in (3, 5))
    of_made = [radius(made, j, 3) for j in range(len(made))]
    between = [[distance(x, y) for y in made] for x in real]
    rows, columns = range(len(real)), range(len(made))
    return {
        "precision": sum(any(between[i][j] <= three[i] for i in rows) for j in columns) / len(made),
        "recall": sum(any(between[i][j] <= of_made[j] for j in columns) for i in rows) / len(real),
        "density": sum(between[i][j] <= five[i] for i in rows for j in columns) / (5 * len(made)),
        "coverage": sum(min(between[i]) <= five[i] for i in rows) / len(real),
    }


def test_the_kernel_distance_of_a_subset_is_that_of_loops():
    real, made = gaussian(9, 5).double(), gaussian(9, 5, seed=1, mean=0.5).double()

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True)) / 5 + 1) ** 3

    def pairs(points):
        return [kernel(points[i], points[j]) for i in range(9) for j in range(9) if i != j]

    crossed = [kernel(x, y) for x in real for y in made]
    expected = sum(pairs(real)) / 72 + sum(pairs(made)) / 72 - 2 * sum(crossed) / 81
    assert unbiased_mmd(real, made).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_the_kernel_distance_of_shifted_gaussians_is_that_of_their_moments(shift):
    """In one dimension (x y + 1)^3 compares E x, E x^2 and E x^3, with weights 3, 3 and 1."""
    found = kernel_distance(gaussian(20_000, 1), gaussian(20_000, 1, seed=1, mean=shift), seed=0)
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    assert abs(found.value - expected) < 3 * found.standard_error
    assert found.standard_error < 0.1 * expected


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average():
    found = [kernel_distance(gaussian(100, seed=i), gaussian(100, seed=100 + i), seed=i).value for i in range(100)]
    average = torch.tensor(found)
    assert abs(average.mean()) < 3 * average.std() / 10
    assert average.min() < 0  # a biased estimate is positive


def test_the_kernel_distance_of_a_set_and_itself_is_a_little_below_zero():
    """Each image has itself in the other set: that of all pairs is -2 (E k(x, x) - E k(x, x')) / N."""
    real = gaussian(2000)
    found, expected = kernel_distance(real, real, seed=0), unbiased_mmd(real.double(), real.double()).item()
    assert -0.02 < expected < 0
    assert abs(found.value - expected) < 3 * found.standard_error


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_standard_error_of_the_kernel_distance_is_how_far_those_of_new_images_lie_apart(shift):
    """With overlapping subsets it would be two to five times too small."""
    found = [
        kernel_distance(gaussian(500, seed=i), gaussian(500, seed=1000 + i, mean=shift), seed=0) for i in range(100)
    ]
    expected = torch.tensor([each.value for each in found]).std().item()
    averaged = torch.tensor([each.standard_error for each in found]).square().mean().sqrt().item()
    assert averaged == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize(("count", "others"), [(5000, 207), (207, 5000)])
def test_sets_of_different_sizes_have_a_kernel_distance(count, others):
    found = kernel_distance(gaussian(count), gaussian(others, seed=1), seed=0)
    assert abs(found.value) < 3 * found.standard_error


def test_subsets_for_the_kernel_distance_have_a_largest_size(monkeypatch):
    monkeypatch.setattr("vae_mnist.measures.samples.SUBSET_SIZE", 100)
    real, made = gaussian(10_000), gaussian(10_000, seed=1)
    assert peak_bytes(lambda: kernel_distance(real, made, seed=0)) < 2e6  # pairs of a tenth of the images take 8 MB


@pytest.mark.parametrize(("count", "others"), [(60, 60), (40, 75), (90, 20)])
@pytest.mark.parametrize("features", [gaussian, grid])
def test_precision_recall_density_and_coverage_are_those_of_loops(features, count, others):
    real, made = features(count, seed=0), 0.5 * features(others, seed=1).round() + features(others, seed=2)
    assert values(neighbour_measures(real, made)) == pytest.approx(in_loops(real, made), rel=1e-12)


def test_identical_sets_have_all_of_precision_recall_and_coverage():
    real = gaussian(200, 16)
    # Each ball holds its own image and the five neighbours that it reaches to.
    assert values(neighbour_measures(real, real.flip(0))) == {
        "precision": 1,
        "recall": 1,
        "density": pytest.approx(6 / 5),
        "coverage": 1,
    }


def test_features_that_are_all_the_same_are_in_the_balls_of_one_another():
    same = torch.full((20, 3), 0.1)
    assert values(neighbour_measures(same, same)) == {"precision": 1, "recall": 1, "density": 4, "coverage": 1}


def test_images_of_one_class_are_precise_and_cover_little():
    found = values(neighbour_measures(clouds(1000), clouds(1000, seed=1, classes=1)))
    assert found["precision"] > 0.8
    assert found["recall"] < 0.1
    assert found["coverage"] <= 0.1
    even = values(neighbour_measures(clouds(1000), clouds(1000, seed=1)))
    assert min(even["precision"], even["recall"], even["coverage"]) > 0.8
    assert even["density"] == pytest.approx(1, abs=0.1)


def test_noise_is_not_precise():
    found = values(neighbour_measures(clouds(1000), gaussian(1000, 8, seed=1, scale=15.0)))
    assert found["precision"] < 0.05
    assert found["density"] < 0.05
    assert found["coverage"] < 0.1


@pytest.mark.parametrize("block", [1, 299, 1000, 7777, 10**9])
@pytest.mark.parametrize("features", [gaussian, grid])
def test_blocks_of_any_size_give_the_same_numbers(monkeypatch, features, block):
    """Images on the edge of a ball stay inside, however their distances are rounded."""
    real, made = features(200, seed=0, dimensions=12) / 3, features(150, seed=1, dimensions=12) / 3
    made[::2] = real[:75]
    expected = neighbour_measures(real, made)
    monkeypatch.setattr("vae_mnist.measures.samples.BLOCK", block)
    assert neighbour_measures(real, made) == expected


def test_distances_are_held_in_blocks(monkeypatch):
    monkeypatch.setattr("vae_mnist.measures.samples.BLOCK", 2**18)  # 2 MB
    real, made = gaussian(2000), gaussian(2000, seed=1)
    assert peak_bytes(lambda: neighbour_measures(real, made)) < 8e6  # all of them at once take 32 MB


# The most memory that the process has taken, in KiB; reset where a process starts a program, unlike ru_maxrss.
GROWTH = """
import re, torch
from pathlib import Path
from vae_mnist.measures.samples import neighbour_measures

def peak():
    return int(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])

real, made = torch.randn(2, 10_000, 128, generator=torch.Generator().manual_seed(0))
neighbour_measures(real[:100], made[:100])
before = peak()
neighbour_measures(real, made)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_images_of_each_take_less_than_200_mb():
    """Blocks in memory of their own took up to 750 MB: small results that were kept left holes too small for them."""
    result = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True)
    assert int(result.stdout) * 1024 < 200e6


def test_features_far_from_zero_are_measured_like_those_around_it():
    real, made = grid(200, seed=0), grid(200, seed=1) + 1
    assert neighbour_measures(real + 1e7, made + 1e7) == neighbour_measures(real, made)


def test_the_neighbours_of_at_most_so_many_images_at_equal_distances_are_looked_for(monkeypatch):
    monkeypatch.setattr("vae_mnist.measures.samples.NEIGHBOUR_IMAGES", 50)
    real, made = gaussian(500), gaussian(100, seed=1, mean=0.3)
    assert neighbour_measures(real, made) == neighbour_measures(real[::10], made[::2])


def test_standard_errors_of_precision_and_density_are_over_made_images():
    real = gaussian(400)
    found = [by_name(neighbour_measures(real, gaussian(400, seed=1 + i, mean=0.7))) for i in range(100)]
    for name in ("precision", "density"):
        expected = torch.tensor([each[name].value for each in found]).std().item()
        averaged = sum(each[name].standard_error for each in found) / 100
        assert averaged == pytest.approx(expected, rel=0.25)
    assert found[0]["recall"].standard_error is found[0]["coverage"].standard_error is None


def test_classes_entropy_and_confidence_are_those_counted_by_hand():
    made = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.02, 0.98, 0.0], [0.89, 0.06, 0.05]])
    entropy, confident, *shares = class_measures(made)
    assert [(each.name, each.value, each.of_class) for each in shares] == [
        ("share_of_class", 0.75, 0),
        ("share_of_class", 0.25, 1),
        ("share_of_class", 0.0, 2),
    ]
    assert [each.standard_error for each in shares] == pytest.approx([sqrt(3 / 64), sqrt(3 / 64), 0])
    assert confident == ("confident_share", 0.5, pytest.approx(0.25), None)
    assert entropy.name == "class_entropy"
    assert entropy.value == pytest.approx(-0.75 * log(0.75) - 0.25 * log(0.25))
    squares = 0.75 * log(0.75) ** 2 + 0.25 * log(0.25) ** 2
    assert entropy.standard_error == pytest.approx(sqrt((squares - entropy.value**2) / 4))


def test_the_entropy_is_largest_for_equal_shares_and_zero_for_one_class():
    entropy, *_ = class_measures(torch.eye(10).repeat(5, 1))
    assert entropy.value == pytest.approx(log(10))
    assert class_measures(torch.eye(10)[:1].expand(50, 10))[0] == ("class_entropy", 0, 0, None)


def test_the_standard_error_of_the_entropy_is_that_over_all_draws_of_two_classes():
    probability, count = 0.2, 200
    weights = [comb(count, n) * probability**n * (1 - probability) ** (count - n) for n in range(count + 1)]
    measured = []
    for n in range(count + 1):
        labels = (torch.arange(count) < n).long()
        measured.append(class_measures(torch.eye(2)[labels])[0])
    mean = sum(w * each.value for w, each in zip(weights, measured, strict=True))
    deviation = sqrt(sum(w * (each.value - mean) ** 2 for w, each in zip(weights, measured, strict=True)))
    average = sum(w * each.standard_error for w, each in zip(weights, measured, strict=True))
    assert average == pytest.approx(deviation, rel=0.02)


def test_all_measures_come_in_one_list_that_depends_on_nothing_but_images_and_seed():
    real, made = gaussian(300), gaussian(200, seed=1, mean=0.5)
    probabilities = gaussian(200, 3, seed=2).softmax(1)
    found = measure_samples(real, made, probabilities, seed=0)
    assert measure_samples(real, made, probabilities, seed=0) == found
    assert [each.name for each in found] == [
        "frechet_distance",
        "kernel_distance",
        "precision",
        "recall",
        "density",
        "coverage",
        "class_entropy",
        "confident_share",
        *["share_of_class"] * 3,
    ]
    assert found[0] == ("frechet_distance", frechet_distance(moments_of(real), moments_of(made)), None, None)
    assert found[1:] == [
        kernel_distance(real, made, seed=0),
        *neighbour_measures(real, made),
        *class_measures(probabilities),
    ]
    other = measure_samples(real, made, probabilities, seed=1)
    assert [i for i, pair in enumerate(zip(found, other, strict=True)) if pair[0] != pair[1]] == [1]


@pytest.mark.parametrize("measure", [lambda real, made: kernel_distance(real, made, seed=0), neighbour_measures])
@pytest.mark.parametrize(
    ("real", "made", "said"),
    [
        (gaussian(19), gaussian(30), r"real images: expected \(images, features\), at least 20 images, got \(19, 4\)"),
        (gaussian(30), gaussian(0), r"made images: expected .* at least 20 images, got \(0, 4\)"),
        (gaussian(30), gaussian(30)[0], r"made images: expected .*, got \(4,\)"),
        (gaussian(30, 0), gaussian(30, 0), r"real images: expected .*, got \(30, 0\)"),
        (gaussian(30), gaussian(30, 5), "made images: expected 4 features as of real images, got 5"),
        (gaussian(30, mean=nan), gaussian(30), "real images: expected finite numbers, got infinity or NaN"),
        (gaussian(30), gaussian(30) / 0, "made images: expected finite numbers, got infinity or NaN"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(measure, real, made, said):
    with pytest.raises(InputError, match=f"features of {said}"):
        measure(real, made)


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        ([[0.5, 0.5], [0.6, 0.5]], r"add up to 1 for each image, got numbers from 0.5 that add up to 1.1 for image 1"),
        ([[1.5, -0.5]], "got numbers from -0.5 that add up to 1 for image 0"),
        ([[nan, 1.0]], "got numbers from nan that add up to nan for image 0"),
        ([0.5, 0.5], r"expected \(images, classes\), at least one of each, got \(2,\)"),
        ([[]], r"at least one of each, got \(1, 0\)"),
    ],
)
def test_numbers_that_are_no_probabilities_are_refused(probabilities, said):
    with pytest.raises(InputError, match=f"probabilities: .*{said}"):
        class_measures(torch.tensor(probabilities))
