"""How near made images come to real ones, by the features and class probabilities that a classifier gives them."""

from collections.abc import Iterator
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .bounds import evenly_spread
from .distances import frechet_distance, moments_of

SUBSETS, SUBSET_SIZE = 10, 1000  # of the kernel distance: at least so many subsets, at most so many images in each
NEIGHBOURS = 3  # of precision and recall (Kynkäänniemi et al. 2019)
COVERAGE_NEIGHBOURS = 5  # of density and coverage (Naeem et al. 2020)
NEIGHBOUR_IMAGES = 10_000  # real and made images that these four look at: their time grows with the product
BLOCK = 2**21  # distances held at once
CONFIDENT = 0.9
SUM_TOLERANCE = 1e-4  # of probabilities in single precision


class SampleMeasure(NamedTuple):
    """One measure of made images."""

    name: str
    value: float
    standard_error: float | None  # None where no honest one is known
    of_class: int | None = None  # the index of the class, of share_of_class


def measure_samples(real: Tensor, made: Tensor, probabilities: Tensor, *, seed: int) -> list[SampleMeasure]:
    """All measures below, and the Frechet distance of the features.

    Args:
        real: features (N, D) of real images, N >= 20. All are computed on the CPU in double precision.
        made: features (M, D) of made images, M >= 20.
        probabilities: (M, C), of the classes of the made images.
        seed: of the subsets of the kernel distance.

    Raises:
        InputError: too few images, another D, values that are not finite, or rows that are no probabilities.
    """
    real, made = _checked(real, made)
    return [
        SampleMeasure("frechet_distance", frechet_distance(moments_of(real), moments_of(made)), None),
        kernel_distance(real, made, seed=seed),
        *neighbour_measures(real, made),
        *class_measures(probabilities),
    ]


def kernel_distance(real: Tensor, made: Tensor, *, seed: int) -> SampleMeasure:
    """The squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, KID (Binkowski et al. 2018).

    The mean of unbiased estimates from disjoint random subsets, negative at times where the distance is near 0. As they
    share no images, they are independent, and the standard error of their mean is that over real and made images; the
    time is linear in the number of images.

    Args:
        real: features (N, D), N >= 20. Of the larger set, as many as of the smaller one are used.
        made: features (M, D), M >= 20.
        seed: of the subsets.

    Raises:
        InputError: too few images, another D, or values that are not finite.
    """
    real, made = _checked(real, made)
    count = min(len(real), len(made))
    size = min(SUBSET_SIZE, count // SUBSETS)
    generator = torch.Generator().manual_seed(seed)
    places = [torch.randperm(len(each), generator=generator)[: count // size * size] for each in (real, made)]
    subsets = zip(*(part.split(size) for part in places), strict=True)
    values = torch.stack([unbiased_mmd(real[some], made[others]) for some, others in subsets])
    return SampleMeasure("kernel_distance", values.mean().item(), values.std().item() / sqrt(len(values)))


def unbiased_mmd(x: Tensor, y: Tensor) -> Tensor:
    """The estimate from one subset (S, D) of each set; no image meets itself (Binkowski et al. 2018, eq. 4)."""

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1).pow(3)

    def of_others(points: Tensor) -> Tensor:
        values = kernel(points, points)
        return (values.sum() - values.trace()) / (len(points) * (len(points) - 1))

    return of_others(x) + of_others(y) - 2 * kernel(x, y).mean()


def neighbour_measures(real: Tensor, made: Tensor) -> list[SampleMeasure]:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), of balls around images.

    The ball of an image reaches as far as its k-th nearest neighbour in its own set, which it includes. The standard
    errors are over made images, given the real ones. Recall and coverage have none: they are no means over made images,
    and a binomial one over real images is too small by a third or more.

    Args:
        real: features (N, D), N >= 20. If there are more than 10,000 of a set, so many at equal distances are used;
            their order must not follow their classes.
        made: features (M, D), M >= 20.

    Raises:
        InputError: too few images, another D, or values that are not finite.
    """
    real, made = (evenly_spread(each, NEIGHBOUR_IMAGES) for each in _checked(real, made))
    real, made = real - real.mean(0), made - real.mean(0)  # smaller numbers are rounded less
    # Rounding must not decide about an image that lies on the edge of a ball, such as the k-th neighbour itself.
    margin = 1e-12 * max(each.square().sum(1).max().item() for each in (real, made))
    real_radii, ball_radii = _neighbours(real, NEIGHBOURS, COVERAGE_NEIGHBOURS) + margin
    (made_radii,) = _neighbours(made, NEIGHBOURS) + margin
    precise, balls = torch.zeros(len(made), dtype=torch.bool), torch.zeros(len(made), dtype=torch.int64)
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool)
    for rows, distances in _blocks(real, made):
        precise |= (distances <= real_radii[rows, None]).any(0)
        recalled[rows] = (distances <= made_radii).any(1)
        inside = distances <= ball_radii[rows, None]
        balls += inside.sum(0)
        covered[rows] = inside.any(1)
    return [
        _mean("precision", precise),
        _mean("recall", recalled)._replace(standard_error=None),
        _mean("density", balls.double() / COVERAGE_NEIGHBOURS),
        _mean("coverage", covered)._replace(standard_error=None),
    ]


def _neighbours(points: Tensor, *which: int) -> Tensor:
    """Squared distances (len(which), N) from each point to its k-th nearest other point."""
    nearest = [distances.topk(max(which) + 1, largest=False).values for _, distances in _blocks(points, points)]
    return torch.cat(nearest).T[list(which)]  # place 0 is the point itself


def _blocks(one: Tensor, other: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances from some rows of the one set to all of the other, in memory that the next block reuses."""
    size = max(1, min(len(one), BLOCK // len(other)))
    norms, memory = other.square().sum(1), torch.empty(size, len(other), dtype=other.dtype)
    for start in range(0, len(one), size):
        rows = slice(start, start + size)
        some = one[rows]
        distances = torch.addmm(norms, some, other.T, alpha=-2, out=memory[: len(some)])
        yield rows, distances.add_(some.square().sum(1, keepdim=True))


def class_measures(probabilities: Tensor) -> list[SampleMeasure]:
    """Which classes made images are taken for, how evenly, and how surely.

    The class of an image is the most probable one. The entropy H = -sum p log p of the shares p of the classes is in
    nats; its variance is (sum p log^2 p - H^2) / M by the delta method.

    Args:
        probabilities: (M, C) of each class.

    Raises:
        InputError: no images, or rows that are no probabilities.
    """
    shape = tuple(probabilities.shape)
    if len(shape) != 2 or 0 in shape:  # noqa: PLR2004
        raise InputError(f"probabilities: expected (images, classes), at least one of each, got {shape}.")
    probabilities = probabilities.cpu()
    sums = probabilities.double().sum(1)
    # NaN is not within the tolerance either.
    wrong = ~(((sums - 1).abs() <= SUM_TOLERANCE) & (probabilities >= 0).all(1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise InputError(
            "probabilities: expected numbers from 0 that add up to 1 for each image, got numbers from "
            f"{probabilities[row].min():g} that add up to {sums[row]:g} for image {row}. Use the softmax of the logits."
        )
    largest, labels = probabilities.max(1)
    shares = [_mean("share_of_class", labels == each)._replace(of_class=each) for each in range(probabilities.shape[1])]
    information = -torch.tensor([share.value for share in shares], dtype=torch.float64).log()[labels]  # (M,) nats
    return [_mean("class_entropy", information), _mean("confident_share", largest >= CONFIDENT), *shares]


def _mean(name: str, values: Tensor) -> SampleMeasure:
    """With its standard error over independent values; of booleans that of a binomial share."""
    values = values.double()
    return SampleMeasure(name, values.mean().item(), values.std(correction=0).item() / sqrt(len(values)))


def _checked(*sets: Tensor) -> list[Tensor]:
    """The features of real and of made images in double precision, on the CPU: Apple's MPS has none."""
    size = sets[0].shape[-1:]
    for name, features in zip(("real", "made"), sets, strict=True):
        shape = tuple(features.shape)
        if len(shape) != 2 or len(features) < 2 * SUBSETS or 0 in shape:  # noqa: PLR2004
            raise InputError(
                f"features of {name} images: expected (images, features), at least {2 * SUBSETS} images, got {shape}."
            )
        if shape[1:] != size:
            raise InputError(
                f"features of {name} images: expected {size[0]} features as of real images, got {shape[1]}. "
                "Use the same classifier for both."
            )
        if not features.isfinite().all():
            raise InputError(f"features of {name} images: expected finite numbers, got infinity or NaN.")
    return [features.cpu().double() for features in sets]
