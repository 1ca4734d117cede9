"""Readers of labels, held against ones written here, and against what must come out."""

from math import sqrt

import pytest
import torch

from vae_mnist.errors import InputError
from vae_mnist.measures.codes import DRAWS, accuracies


def clouds(count, spread, classes=10, dimensions=4, seed=0):
    """Codes (count, dimensions) around a place for each class, and labels, of which there are equally many."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    return places[labels] + spread * torch.randn(count, dimensions, generator=generator), labels


def by_name(found):
    return {(each.reader, each.labels): each for each in found}


def test_few_and_all_labels_are_learned_from():
    found = by_name(accuracies(clouds(2000, 0.5), clouds(500, 0.5, seed=1), seed=0))
    assert {key: each.draws for key, each in found.items()} == {
        (reader, labels): draws
        for reader in ("linear_probe", "neighbours")
        for labels, draws in ((100, DRAWS), (1000, DRAWS), (2000, 1))
    }
    small = accuracies(clouds(105, 0.5), clouds(500, 0.5, seed=1), seed=0)
    assert {each.labels for each in small} == {105}  # 100 would leave out a class


def test_codes_that_say_the_class_are_read_without_an_error():
    found = list(accuracies(clouds(2000, 1e-3), clouds(500, 1e-3, seed=1), seed=0))
    assert [each.value for each in found] == [1.0] * 6
    assert [each.standard_error for each in found] == [0.0] * 6


def test_labels_that_have_nothing_to_do_with_codes_are_read_by_chance():
    features, labels = clouds(2000, 0.5)
    shuffled = labels[torch.randperm(2000, generator=torch.Generator().manual_seed(5))]
    for each in accuracies((features, shuffled), clouds(1000, 0.5, seed=1), seed=0):
        assert abs(each.value - 0.1) < 4 * each.standard_error


def test_readers_agree_with_ones_written_here():
    (features, labels), (others, truth) = clouds(1000, 1.0), clouds(500, 1.0, seed=1)
    found = by_name(accuracies((features, labels), (others, truth), seed=0))
    x, x_test = (each.double() / features.double().std() for each in (features, others))
    nearest = torch.cdist(x_test, x).topk(5, largest=False).indices
    neighbours = (labels[nearest].mode(1).values == truth).double().mean().item()
    assert found["neighbours", 1000].value == pytest.approx(neighbours, abs=0.002)
    weights = torch.zeros(10, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def scores(codes):
        return codes @ weights[:, :4].T + weights[:, 4]

    def loss():
        optimizer.zero_grad()
        value = (
            torch.nn.functional.cross_entropy(scores(x), labels, reduction="sum") + weights[:, :4].square().sum() / 2
        )
        value.backward()
        return value

    optimizer.step(loss)
    probe = (scores(x_test).argmax(1) == truth).double().mean().item()
    assert found["linear_probe", 1000].value == pytest.approx(probe, abs=0.002)
    assert 0.3 < probe < 0.9


def test_the_standard_error_is_over_images_and_draws(monkeypatch):
    monkeypatch.setattr("vae_mnist.measures.codes.FEW", (100,))
    test = clouds(500, 1.0, seed=1)
    found = by_name(accuracies(clouds(1000, 1.0), test, seed=0))
    whole = found["neighbours", 1000]
    assert whole.standard_error == pytest.approx(sqrt(whole.value * (1 - whole.value) / 500))
    few = found["neighbours", 100]
    assert few.standard_error > sqrt(few.value * (1 - few.value) / 500)
    # Means over as many draws from other seeds lie about as far apart as it says.
    values = torch.tensor(
        [by_name(accuracies(clouds(1000, 1.0), test, seed=seed))["neighbours", 100].value for seed in range(1, 13)]
    )
    spread = sqrt(few.standard_error**2 - few.value * (1 - few.value) / 500)
    assert spread / 3 < values.std().item() < 3 * spread


def test_the_scale_of_features_does_not_matter():
    train, test = clouds(1000, 1.0), clouds(500, 1.0, seed=1)
    large = [(1024 * features, labels) for features, labels in (train, test)]
    assert list(accuracies(*large, seed=3)) == list(accuracies(train, test, seed=3))


def test_codes_that_are_all_the_same_are_read_by_chance():
    _, labels = clouds(200, 0.5)
    same = torch.full((200, 4), 3.0)
    assert [each.value for each in accuracies((same, labels), (same, labels), seed=0)] == [0.1] * 4


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 0, 1]])
def test_too_few_labels_are_refused(labels):
    train = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor(labels)
    with pytest.raises(InputError, match="at least two classes of at least two training images each, got"):
        list(accuracies(train, train, seed=0))
