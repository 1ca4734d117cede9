"""How well the dimensions of codes separate known factors of variation.

Codes are (N, D) floats, one row an image; factors are (N, K) integers that name the value each factor has in an image.
"""

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

# As in disentanglement_lib (Locatello et al. 2019), with which most published scores were measured. The random forest
# is not: it takes the place of gradient boosting, which takes four to seven times as long (docs/measures.md).
BINS = 20  # of equal width
TEST_SHARE = 1 / 3  # 5,000 of 15,000 images
SVM = {"C": 0.01, "class_weight": "balanced"}
FOREST = {"n_estimators": 50, "max_features": None, "min_samples_leaf": 20}
BATCH_SIZE = 64
TRAIN_VOTES, TEST_VOTES = 10_000, 5_000
PRUNED_BELOW = 0.05  # standard deviation of a dimension that has no vote
MIN_IMAGES = 10  # of each value of a factor, so that there are some to learn from and some to test


class Disentanglement(NamedTuple):
    """Each in [0, 1], higher is better."""

    mig: float
    sap: float
    dci_disentanglement: float
    dci_completeness: float
    dci_informativeness: float
    factor_vae: float
    modularity: float


def disentanglement(codes: Tensor, factors: Tensor, *, seed: int) -> Disentanglement:
    """All measures of the same codes.

    Args:
        codes: (N, D), such as posterior means; of VAEs, so that their scale is that of N(0, I).
        factors: (N, K) int64, each column with a small number of values.
        seed: of the division into training and test images, the forests and the votes.

    Raises:
        InputError: shapes that do not fit, fewer than two dimensions or factors, codes that are not finite, a factor
            with one value, a value with fewer than 10 images.
    """
    codes, factors = codes.cpu().float(), factors.cpu()
    _check(codes, factors)
    information = mutual_information(codes, factors)
    return Disentanglement(
        mutual_information_gap(information, factors),
        separated_attribute_predictability(codes, factors, seed=seed),
        *dci(codes, factors, seed=seed),
        factor_vae_score(codes, factors, seed=seed),
        modularity(information),
    )


def mutual_information(codes: Tensor, factors: Tensor) -> Tensor:
    """I(z_i; v_k) of each dimension, in 20 bins of equal width, and each factor: (D, K) float64 nats."""
    from sklearn.metrics import mutual_info_score  # slow to import

    low, high = codes.double().aminmax(dim=0)
    width = (high - low).where(high > low, 1)  # a constant dimension has one bin
    bins = ((codes.double() - low) / width * BINS).long().clamp(max=BINS - 1)  # (N, D)
    rows = [[mutual_info_score(v.numpy(), z.numpy()) for v in factors.T] for z in bins.T]
    return torch.tensor(rows, dtype=torch.float64)


def mutual_information_gap(information: Tensor, factors: Tensor) -> float:
    """MIG, (I_1 - I_2) / H(v_k) averaged over factors: how much more the best dimension says than the second best.

    Chen et al. (2018), section 4.1; in bins, Locatello et al. (2019).

    Args:
        information: (D, K), by `mutual_information`.
        factors: (N, K).
    """
    best, second = information.topk(2, dim=0).values  # (K,) each
    shares = [v.unique(return_counts=True)[1].double() / len(v) for v in factors.T]
    entropy = torch.stack([torch.special.entr(share).sum() for share in shares])  # (K,)
    return float(((best - second) / entropy).mean())


def modularity(information: Tensor) -> float:
    """1 - sum_{k != best} I_ik^2 / (max_k I_ik^2 (K - 1)), averaged over dimensions.

    Ridgeway & Mozer (2018), section 3. For a dimension that says nothing it is 0 / 0; those are left out here, and
    count as 0 in disentanglement_lib. 0 if no dimension says anything.

    Args:
        information: (D, K), by `mutual_information`.
    """
    squares = information.square()
    squares = squares[squares.amax(1) > 0]
    if not len(squares):
        return 0.0
    largest = squares.amax(1)
    deviation = (squares.sum(1) - largest) / (largest * (information.shape[1] - 1))
    return float((1 - deviation).mean())


def separated_attribute_predictability(codes: Tensor, factors: Tensor, *, seed: int) -> float:
    """SAP: the gap between the two dimensions that predict a factor best, averaged over factors.

    Kumar et al. (2018), section 3; the score of a dimension is the test accuracy of a linear support vector machine, as
    in Locatello et al. (2019). Chance is part of both accuracies: the gap is at most 1 - 1/V for V values of the same
    frequency.
    """
    from sklearn.svm import LinearSVC  # slow to import

    accuracy = torch.empty(codes.shape[1], factors.shape[1], dtype=torch.float64)  # (D, K)
    for k, values in enumerate(factors.T.numpy()):
        train, test = _split(factors[:, k], seed)
        for i, code in enumerate(codes.T[:, :, None].numpy()):
            svm = LinearSVC(**SVM).fit(code[train], values[train])
            accuracy[i, k] = svm.score(code[test], values[test])
    best, second = accuracy.topk(2, dim=0).values  # (K,) each
    return float((best - second).mean())


class DCI(NamedTuple):
    """By Eastwood & Williams (2018)."""

    disentanglement: float  # does each dimension say something about one factor only?
    completeness: float  # is each factor found in one dimension only?
    informativeness: float  # share of test images whose value is predicted, averaged over factors


def dci(codes: Tensor, factors: Tensor, *, seed: int) -> DCI:
    """Disentanglement and completeness by the importances of dimensions to a random forest, and its accuracy.

    Eastwood & Williams (2018), section 2; accuracy instead of their prediction error, as in Locatello et al. (2019).
    """
    from sklearn.ensemble import RandomForestClassifier  # slow to import

    x = codes.numpy()
    importances = torch.empty(codes.shape[1], factors.shape[1], dtype=torch.float64)  # (D, K)
    accuracy = torch.empty(factors.shape[1], dtype=torch.float64)  # (K,)
    for k, values in enumerate(factors.T.numpy()):
        train, test = _split(factors[:, k], seed)
        forest = RandomForestClassifier(**FOREST, random_state=seed % 2**32, n_jobs=torch.get_num_threads())
        forest.fit(x[train], values[train])
        importances[:, k] = torch.from_numpy(forest.feature_importances_)
        # Several threads would add up the votes of the trees in any order.
        accuracy[k] = forest.set_params(n_jobs=1).score(x[test], values[test])
    return DCI(concentration(importances), concentration(importances.T), float(accuracy.mean()))


def concentration(importances: Tensor) -> float:
    """How close each row is to having one entry: sum_i w_i (1 - H(P_i)), with w_i the row's share of all importances.

    P_i is row i divided by its sum, H its entropy to the base of the number of columns (Eastwood & Williams 2018).
    Of importances (D, K) it is the disentanglement, of their transpose the completeness. 0 if all of them are 0.
    """
    sums = importances.sum(1)
    entropy = torch.special.entr(importances / sums.where(sums > 0, 1)[:, None]).sum(1)  # nats
    weights = sums / sums.sum().clamp(min=torch.finfo(sums.dtype).tiny)
    return float((weights * (1 - entropy / log(importances.shape[1]))).sum())


def factor_vae_score(codes: Tensor, factors: Tensor, *, seed: int) -> float:
    """Share of test votes for the factor that most training votes for the same dimension are for.

    A vote: of a batch of images with the same value of one factor, the dimension with the least variance, each
    variance divided by that of all images. Kim & Mnih (2018), section 4. Factor and value are those of an image drawn
    at random, and the batch is drawn, with replacement, among the images that share the value, since images of other
    combinations of factors cannot be made. 0 if no dimension varies.
    """
    deviation = codes.double().std(0)
    varying = deviation >= PRUNED_BELOW  # where both variances are 0, their ratio is not a number
    if not varying.any():
        return 0.0
    scaled = codes.double()[:, varying] / deviation[varying]
    generator = torch.Generator().manual_seed(seed)

    def below(end: int, *size: int) -> Tensor:
        return torch.randint(end, size, generator=generator)

    def votes(count: int) -> Tensor:
        table = torch.zeros(factors.shape[1], scaled.shape[1], dtype=torch.int64)  # (K, D)
        fixed, drawn = below(factors.shape[1], count), below(len(codes), count)
        for k, values in enumerate(factors.T):
            for value, batches in zip(*values[drawn[fixed == k]].unique(return_counts=True), strict=True):
                images = (values == value).nonzero()[:, 0]
                batch = scaled[images[below(len(images), int(batches), BATCH_SIZE)]]  # (batches, 64, D)
                table[k] += batch.var(1).argmin(1).bincount(minlength=scaled.shape[1])
        return table

    factor_of_dimension = votes(TRAIN_VOTES).argmax(0, keepdim=True)  # (1, D)
    return votes(TEST_VOTES).gather(0, factor_of_dimension).sum().item() / TEST_VOTES


def _split(values: Tensor, seed: int) -> list[Tensor]:
    """Indices of training and test images; the shares of values are those of all images."""
    from sklearn.model_selection import train_test_split

    images = torch.arange(len(values)).numpy()
    split: list[Tensor] = train_test_split(
        images, test_size=TEST_SHARE, stratify=values.numpy(), random_state=seed % 2**32
    )
    return split


def _check(codes: Tensor, factors: Tensor) -> None:
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):  # noqa: PLR2004
        raise InputError(
            "disentanglement: expected codes (N, D) and factors (N, K) of the same N images, got shapes "
            f"{tuple(codes.shape)} and {tuple(factors.shape)}."
        )
    if codes.shape[1] < 2 or factors.shape[1] < 2:  # noqa: PLR2004
        raise InputError(
            "disentanglement: expected at least two dimensions and two factors, since the measures compare them, got "
            f"{codes.shape[1]} and {factors.shape[1]}."
        )
    if factors.is_floating_point() or factors.is_complex():
        raise InputError(
            f"disentanglement: expected factors that are integers, got {factors.dtype}. Divide continuous factors "
            "into a few values."
        )
    if not codes.isfinite().all():
        raise InputError("disentanglement: expected finite codes, got infinite ones or NaN. Leave these images out.")
    for k, values in enumerate(factors.T):
        found, counts = values.unique(return_counts=True)
        if len(found) < 2:  # noqa: PLR2004
            raise InputError(
                f"disentanglement: expected at least two values of each factor, got {len(found)} of factor {k}. "
                "Leave this factor out."
            )
        if counts.min() < MIN_IMAGES:
            raise InputError(
                f"disentanglement: expected at least {MIN_IMAGES} images of each value, got {int(counts.min())} of "
                f"value {int(found[counts.argmin()])} of factor {k}. Add images, or leave those of this value out."
            )
