"""How well labels can be read from features of images, such as posterior means: a linear probe, and neighbours."""

import warnings
from collections.abc import Iterator
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

# What scikit-learn's classifiers are given. Ten times as many iterations of L-BFGS change accuracies on pixels by less
# than one percent.
READERS: dict[str, dict[str, int | float]] = {
    "linear_probe": {"C": 1.0, "max_iter": 100},
    "neighbours": {"n_neighbors": 5},
}
FEW = (100, 1000)  # labels to learn from, where there are more
DRAWS = 5  # of so few


class Accuracy(NamedTuple):
    """How many test images are given the right label."""

    reader: str  # linear_probe or neighbours
    labels: int  # that it learned from
    draws: int  # of these labels; the accuracy is their mean
    value: float  # share of the test images
    standard_error: float  # of it, over test images and draws


def accuracies(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, seed: int) -> Iterator[Accuracy]:
    """Accuracies of multinomial logistic regression and 5 nearest neighbours, with 100, 1,000 and all labels.

    Features are divided by the standard deviation of all of them together, which keeps their distances alike. Few
    labels are drawn with the shares of classes that all have.

    Args:
        train: features (N, D) float32 and labels (N,) int64.
        test: features (M, D) and labels (M,).
        seed: of the draws.

    Raises:
        InputError: fewer than two classes in the training labels, or a class with a single image.
    """
    # Slow to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedShuffleSplit

    (features, labels), (others, truth) = ((each.cpu().float().flatten(1), of.cpu()) for each, of in (train, test))
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < 2 or counts.min() < 2:  # noqa: PLR2004
        raise InputError(
            f"accuracies: expected at least two classes of at least two training images each, got {len(classes)} of "
            f"at least {int(counts.min())}."
        )
    scale = features.std().item() or 1.0  # 0: all features are the same
    x, y, x_test, y_test = (each.numpy() for each in (features / scale, labels, others / scale, truth))
    for count in (*(few for few in FEW if len(classes) <= few <= len(y) - len(classes)), len(y)):
        draws = [torch.arange(len(y)).numpy()]
        if count < len(y):
            splits = StratifiedShuffleSplit(DRAWS, train_size=count, random_state=seed % 2**32)
            draws = [chosen for chosen, _ in splits.split(x, y)]
        for reader in READERS:
            with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
                right = [_reader(reader).fit(x[chosen], y[chosen]).predict(x_test) == y_test for chosen in draws]
            values = torch.tensor([each.mean() for each in right], dtype=torch.float64)
            mean = values.mean().item()
            variance = mean * (1 - mean) / len(y_test)
            if len(draws) > 1:
                variance += values.var().item() / len(draws)
            yield Accuracy(reader, count, len(draws), mean, sqrt(variance))


def _reader(name: str) -> Any:  # noqa: ANN401 scikit-learn has no types
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return {"linear_probe": LogisticRegression, "neighbours": KNeighborsClassifier}[name](**READERS[name])
