"""Measures of disentanglement, held against tables computed by hand and codes whose scores are known."""

from math import log, sqrt

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from vae_mnist.errors import InputError
from vae_mnist.measures.disentanglement import (
    concentration,
    dci,
    disentanglement,
    factor_vae_score,
    modularity,
    mutual_information,
    mutual_information_gap,
    separated_attribute_predictability,
)


def every_combination(*counts, times):
    """Factors (N, K) with so many values; each combination as often, so that they are exactly independent."""
    return torch.cartesian_prod(*(torch.arange(count) for count in counts)).repeat(times, 1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(dimensions, seed=0):
    return torch.linalg.qr(noise(dimensions, dimensions, seed=seed)).Q


def mig(codes, factors):
    return mutual_information_gap(mutual_information(codes, factors), factors)


FACTORS = every_combination(3, 3, 3, times=40)  # (1080, 3)
PERFECT = FACTORS - 1.0
GOOD = (noise(40, 2), every_combination(2, 2, times=10))


@pytest.fixture(scope="module")
def of_perfect():
    return disentanglement(PERFECT, FACTORS, seed=0)


@pytest.fixture(scope="module")
def of_random():
    return disentanglement(noise(1080, 4), FACTORS, seed=0)


@pytest.fixture(scope="module")
def of_rotated():
    return disentanglement(PERFECT @ rotation(3), FACTORS, seed=0)


def test_codes_that_are_the_factors_are_perfect(of_perfect):
    scores = of_perfect._asdict()
    # The second best dimension is right by chance, in a third of the images.
    assert scores.pop("sap") == pytest.approx(1 - 1 / 3, abs=1e-12)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0), abs=1e-12)
    assert len(scores) == 6


def test_codes_that_have_nothing_to_do_with_factors_are_at_chance(of_random):
    assert of_random.mig < 0.01
    assert of_random.sap < 0.04
    assert of_random.dci_disentanglement < 0.02
    assert of_random.dci_completeness < 0.02
    assert of_random.dci_informativeness == pytest.approx(1 / 3, abs=0.04)
    assert of_random.factor_vae == pytest.approx(1 / 3, abs=0.04)
    # Every estimate of mutual information is too large by about as much, so that no factor stands out.
    assert of_random.modularity < 0.5


def test_rotated_codes_inform_but_do_not_separate(of_rotated):
    assert of_rotated.dci_informativeness > 0.95
    assert of_rotated.mig < 0.3
    assert of_rotated.sap < 0.2
    assert of_rotated.dci_disentanglement < 0.4
    assert of_rotated.dci_completeness < 0.4
    assert of_rotated.modularity < 0.7
    assert of_rotated.factor_vae < 0.8


def test_two_factors_mixed_half_and_half_score_nothing():
    factors = every_combination(2, 2, times=500)
    mixed = (factors - 0.5) @ (torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / sqrt(2)) + 0.01 * noise(2000, 2)
    information = mutual_information(mixed, factors)
    assert mutual_information_gap(information, factors) < 0.02
    assert modularity(information) < 0.02
    assert separated_attribute_predictability(mixed, factors, seed=0) < 0.05
    assert dci(mixed, factors, seed=0).disentanglement < 0.05


def test_a_dimension_that_is_there_twice_leaves_no_gap_but_says_one_thing():
    twice = torch.cat([PERFECT, PERFECT], dim=1)
    assert mig(twice, FACTORS) == 0
    assert separated_attribute_predictability(twice, FACTORS, seed=0) == 0
    found = dci(twice, FACTORS, seed=0)
    assert found.disentanglement == pytest.approx(1, abs=1e-9)
    assert found.completeness == pytest.approx(1 - log(2) / log(6), abs=0.05)  # two of six dimensions are equally good
    assert found.informativeness == 1


def test_the_order_of_dimensions_changes_nothing():
    codes = torch.cat([PERFECT @ rotation(3) + 0.3 * noise(1080, 3), noise(1080, 2, seed=1)], dim=1)
    one = disentanglement(codes, FACTORS, seed=0)
    other = disentanglement(codes[:, [3, 0, 4, 2, 1]], FACTORS, seed=0)
    # Of two splits that are equally good, a tree takes the one it comes across first.
    assert other._asdict() == pytest.approx(one._asdict(), abs=0.005)
    exact = ("mig", "sap", "factor_vae", "modularity")
    assert [getattr(other, name) for name in exact] == pytest.approx([getattr(one, name) for name in exact], abs=1e-9)


def test_the_names_of_values_change_nothing(of_perfect):
    names = torch.tensor([7, -2, 10**12])
    assert disentanglement(PERFECT, names[FACTORS], seed=0)._asdict() == pytest.approx(of_perfect._asdict(), abs=1e-9)


def test_constant_dimensions_are_harmless(of_perfect):
    codes = torch.cat([torch.tensor([[0.0, 3.1]]).expand(1080, 2), PERFECT], dim=1)
    assert disentanglement(codes, FACTORS, seed=0)._asdict() == pytest.approx(of_perfect._asdict(), abs=1e-9)


def test_a_collapsed_model_scores_nothing():
    found = disentanglement(torch.ones(1080, 3), FACTORS, seed=0)
    assert found.dci_informativeness == pytest.approx(1 / 3, abs=0.01)
    assert found._replace(dci_informativeness=0.0) == (0.0,) * 7


def test_dimensions_are_compared_whatever_their_scales():
    codes = PERFECT @ rotation(3) + 0.3 * noise(1080, 3)
    scaled = codes * torch.tensor([1.0, 64.0, 0.125]) + torch.tensor([0.0, 16.0, -1.0])
    assert mutual_information(scaled, FACTORS) == pytest.approx(mutual_information(codes, FACTORS), abs=0.005)
    one, other = (factor_vae_score(each, FACTORS, seed=0) for each in (codes, scaled))
    assert other == pytest.approx(one, abs=1e-3)
    assert dci(scaled, FACTORS, seed=0) == pytest.approx(dci(codes, FACTORS, seed=0), abs=0.02)


def test_the_same_seed_gives_the_same_scores_and_another_seed_others():
    codes = PERFECT @ rotation(3) + 0.3 * noise(1080, 3)
    one = disentanglement(codes, FACTORS, seed=2**40)
    assert one == disentanglement(codes, FACTORS, seed=2**40)
    other = disentanglement(codes, FACTORS, seed=1)
    assert (one.mig, one.modularity) == (other.mig, other.modularity)
    assert all(a != b for a, b in zip(one[1:6], other[1:6], strict=True))


def test_mutual_information_of_a_small_table_is_as_by_hand():
    # Images with (low, high) codes: 3 and 1 of the first value, 0 and 4 of the second.
    codes = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    factors = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[:, None]
    by_hand = 3 / 8 * log(3 / 8 / (3 / 8 * 1 / 2)) + 1 / 8 * log(1 / 8 / (5 / 8 * 1 / 2)) + 1 / 2 * log(1 / (5 / 8))
    found = mutual_information(codes, factors)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(by_hand, rel=1e-12)


def test_each_entry_of_the_matrix_is_of_its_dimension_and_its_factor():
    # A `view` to (D, N) instead of a transpose mixes dimensions and images.
    factors = torch.stack([torch.arange(840) % count for count in (2, 3, 4, 5, 7)], dim=1)
    codes = torch.stack([factors[:, 3], factors[:, 0] + 2 * factors[:, 1]], dim=1).float()
    expected = torch.zeros(2, 5, dtype=torch.float64)
    expected[0, 3] = log(5)
    expected[1, 0], expected[1, 1] = log(2), log(3)
    expected[1, 2] = log(2)  # of the remainder by 4, the remainder by 2 is known
    torch.testing.assert_close(mutual_information(codes, factors), expected, rtol=1e-12, atol=1e-12)


def test_bins_are_those_of_a_histogram_of_each_dimension():
    codes = noise(500, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, -50.0, 10.0])
    factors = torch.stack([codes[:, 0] > 0, codes[:, 1] > -20], dim=1).long()
    found = mutual_information(codes, factors)
    for i, code in enumerate(codes.double().T.numpy()):
        bins = np.digitize(code, np.histogram(code, 20)[1][:-1])
        assert set(bins) <= set(range(1, 21))
        for k, values in enumerate(factors.T.numpy()):
            assert found[i, k] == pytest.approx(mutual_info_score(values, bins), rel=1e-9)


def test_the_gap_is_between_dimensions_and_divided_by_the_entropy_of_each_factor():
    factors = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 1]])
    information = torch.tensor([[0.1, 0.6], [0.4, 0.5], [0.3, 0.2]], dtype=torch.float64)
    rare = -0.75 * log(0.75) - 0.25 * log(0.25)
    by_hand = ((0.4 - 0.3) / rare + (0.6 - 0.5) / log(2)) / 2
    assert mutual_information_gap(information, factors) == pytest.approx(by_hand, rel=1e-12)


def test_a_rare_value_that_codes_say_is_worth_as_much():
    factors = torch.stack([torch.arange(1000) % 20 == 0, torch.arange(1000) // 20 % 2 == 0], dim=1).long()
    assert mig(factors.float(), factors) == pytest.approx(1, abs=1e-12)


def test_modularity_is_over_the_factors_of_each_dimension():
    information = torch.tensor(
        [[0.5, 0.1, 0.2], [0.0, 0.3, 0.0], [0.4, 0.4, 0.4], [0.0, 0.0, 0.0]], dtype=torch.float64
    )
    by_hand = (1 - (0.01 + 0.04) / (0.25 * 2) + 1 + 0) / 3  # the last dimension says nothing
    assert modularity(information) == pytest.approx(by_hand, rel=1e-12)


def test_disentanglement_and_completeness_are_weighted_entropies_of_importances():
    importances = torch.tensor([[0.9, 0.1], [0.1, 0.1], [0.0, 0.8], [0.0, 0.0]], dtype=torch.float64)
    tenth = -0.9 * log(0.9) - 0.1 * log(0.1)
    rows = 0.5 * (1 - tenth / log(2)) + 0.1 * 0 + 0.4 * 1
    columns = 0.5 * (1 - tenth / log(4)) + 0.5 * (1 - (-0.8 * log(0.8) - 0.2 * log(0.1)) / log(4))
    assert concentration(importances) == pytest.approx(rows, rel=1e-12)
    assert concentration(importances.T) == pytest.approx(columns, rel=1e-12)
    assert concentration(torch.zeros(3, 2).double()) == concentration(torch.zeros(2, 3).double()) == 0


def test_one_dimension_that_says_two_things_is_complete_but_not_disentangled():
    factors = every_combination(2, 2, times=300)
    codes = torch.stack([2.0 * factors[:, 0] + factors[:, 1], noise(1200), noise(1200, seed=1)], dim=1)
    found = dci(codes, factors, seed=0)
    assert found.disentanglement == pytest.approx(0, abs=1e-6)
    assert found.completeness == pytest.approx(1, abs=1e-6)
    assert found.informativeness == 1


def test_scores_are_averaged_over_factors():
    factors = every_combination(2, 2, times=500)
    codes = torch.stack([factors[:, 0].float(), noise(2000)], dim=1)  # of the second factor nothing is known
    assert mig(codes, factors) == pytest.approx(1 / 2, abs=0.02)
    assert separated_attribute_predictability(codes, factors, seed=0) == pytest.approx(0.5 / 2, abs=0.03)
    assert dci(codes, factors, seed=0).informativeness == pytest.approx((1 + 0.5) / 2, abs=0.03)


def test_images_that_were_learned_from_do_not_count():
    factors = torch.randint(2, (600, 2), generator=torch.Generator().manual_seed(3))
    codes = noise(600, 20)
    assert dci(codes, factors, seed=0).informativeness == pytest.approx(0.5, abs=0.1)


def test_the_predictability_of_a_dimension_is_the_accuracy_of_a_threshold():
    # One dimension is on the right side of 0 in 90 % of the images, the other in 70 %.
    factors = every_combination(2, 2, times=1500)
    wrong = torch.rand(6000, 2, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.1, 0.3])
    first = factors[:, :1].logical_xor(wrong)
    second = factors[:, 1:].logical_xor(wrong)
    codes = torch.cat([first, second], dim=1) * 2.0 - 1
    assert separated_attribute_predictability(codes, factors, seed=0) == pytest.approx(0.2, abs=0.03)


def test_a_rare_value_is_not_given_up_for_the_accuracy():
    # Without weights of the classes, each dimension would say the frequent value, and none were better.
    factors = torch.stack([torch.arange(6000) % 20 == 0, torch.arange(6000) % 21 == 0], dim=1).long()
    codes = factors + 0.5 * noise(6000, 2)
    assert separated_attribute_predictability(codes, factors, seed=0) > 0.15


def test_predictability_is_low_for_many_values_in_a_line():
    # A linear machine for one value against all others cannot cut out a value in the middle.
    factors = every_combination(10, 10, times=20)
    assert separated_attribute_predictability(factors.float(), factors, seed=0) < 0.5


def test_votes_are_for_the_dimension_that_varies_least_for_its_scale():
    factors = every_combination(2, 2, times=500)
    signs = 2.0 * factors - 1
    # Where a factor is held, the deviation of its dimension is 0.9 times that of all images, and the scales differ.
    held = torch.stack([signs[:, 0] * sqrt(0.19), 10 * signs[:, 1] * sqrt(0.19)], dim=1)
    codes = held + noise(2000, 2) * 0.9 * torch.tensor([1.0, 10.0])
    found = factor_vae_score(codes, factors, seed=0)
    # The logarithm of the ratio of two variances of 64 normal codes: deviation sqrt(4 / 63).
    expected = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-log(0.81) / sqrt(4 / 63)))
    assert found == pytest.approx(expected.item(), abs=0.04)


def test_votes_that_were_learned_from_do_not_count():
    factors = every_combination(3, 3, 3, times=300)
    assert factor_vae_score(noise(8100, 60), factors, seed=0) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize(("deviation", "score"), [(0.049, 0.0), (0.051, 1.0)])
def test_dimensions_with_almost_no_variance_have_no_vote(deviation, score):
    assert factor_vae_score(PERFECT * deviation / PERFECT.std(0), FACTORS, seed=0) == score


def test_votes_of_a_factor_are_among_images_that_share_its_value():
    # The first factor has a rare value, of which the batch must be filled by drawing images again.
    factors = torch.stack([(torch.arange(2000) < 10).long(), torch.arange(2000) % 2], dim=1)
    codes = factors + 0.01 * noise(2000, 2)
    assert factor_vae_score(codes, factors, seed=0) == 1


def test_codes_and_factors_are_left_as_they_are_and_may_be_of_any_kind():
    codes, factors = GOOD[0].double(), GOOD[1].int()
    before = codes.clone(), factors.clone()
    found = disentanglement(codes, factors, seed=0)
    assert found == disentanglement(*GOOD, seed=0)
    assert torch.equal(codes, before[0])
    assert torch.equal(factors, before[1])


NAN, INFINITE = GOOD[0].clone(), GOOD[0].clone()
NAN[3, 1], INFINITE[0, 0] = torch.nan, -torch.inf
ONE_VALUE, RARE = GOOD[1].clone(), GOOD[1].clone()
ONE_VALUE[:, 1], RARE[:9, 1] = 5, 7


@pytest.mark.parametrize(
    ("codes", "factors", "words"),
    [
        (GOOD[0][:39], GOOD[1], r"of the same N images, got shapes \(39, 2\) and \(40, 2\)"),
        (GOOD[0][:, 0], GOOD[1], r"got shapes \(40,\) and \(40, 2\)"),
        (GOOD[0], GOOD[1][:, 0], r"got shapes \(40, 2\) and \(40,\)"),
        (GOOD[0][:, :1], GOOD[1], "at least two dimensions and two factors, .* got 1 and 2"),
        (GOOD[0], GOOD[1][:, :1], "at least two dimensions and two factors, .* got 2 and 1"),
        (GOOD[0], GOOD[1].float(), "factors that are integers, got torch.float32"),
        (NAN, GOOD[1], "expected finite codes"),
        (INFINITE, GOOD[1], "expected finite codes"),
        (GOOD[0].double() * 1e300, GOOD[1], "expected finite codes"),
        (GOOD[0], ONE_VALUE, "at least two values of each factor, got 1 of factor 1"),
        (GOOD[0], RARE, "at least 10 images of each value, got 9 of value 7 of factor 1"),
        (GOOD[0][:0], GOOD[1][:0], "at least two values of each factor, got 0 of factor 0"),
    ],
)
def test_codes_and_factors_that_cannot_be_compared_are_refused(codes, factors, words):
    with pytest.raises(InputError, match=words):
        disentanglement(codes, factors, seed=0)


def test_the_fewest_images_are_enough():
    assert all(0 <= score <= 1 for score in disentanglement(*GOOD, seed=0))
