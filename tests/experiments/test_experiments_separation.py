"""How experiments compare kinds of models: areas, tests, intervals and verdicts by hand-computed values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.experiments import separation as sep
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from zkcert.errors import UnusableInput

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


def test_auc_is_the_chance_that_a_defective_model_has_the_larger_value():
    assert sep.auc([1, 2], [3, 4]) == 1
    assert sep.auc([3, 4], [1, 2]) == 0
    assert sep.auc([1, 3], [2, 4]) == 3 / 4
    assert sep.auc([1, 2], [2, 3]) == 3.5 / 4  # the tie counts half
    assert sep.auc([[1, 2], [3, 4]], [[5, 0]]) == 1 / 2


@settings(deadline=None)
@given(VALUES, VALUES)
def test_auc_counts_pairs(clean, defective):
    pairs = [(b > a) + (b == a) / 2 for a in clean for b in defective]
    assert sep.auc(clean, defective) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    negated = sep.auc([-a for a in clean], [-b for b in defective])
    assert sep.auc(clean, defective) + negated == pytest.approx(1, abs=1e-12)


def test_effect_size_by_hand():
    # deviations 1 and 3: pooled sqrt((2 * 1 + 2 * 9) / 4) = sqrt(5); means 2 and 7
    assert sep.effect_size([1, 2, 3], [4, 7, 10]) == pytest.approx(5 / math.sqrt(5))
    assert sep.effect_size([4, 7, 10], [1, 2, 3]) == pytest.approx(-5 / math.sqrt(5))
    assert math.isnan(sep.effect_size([1, 1], [2, 2])) and math.isnan(sep.effect_size([1], [2]))


def test_permutation_test_counts_the_swaps_within_seeds_that_separate_as_well(monkeypatch):
    clean, defective = np.array([1.0, 4.0, 2.0, 6.0]), np.array([3.0, 5.0, 6.0, 5.5])
    found = []
    for swapped in itertools.product((False, True), repeat=4):
        found.append(sep.auc(np.where(swapped, defective, clean), np.where(swapped, clean, defective)))
    expected = np.mean([a >= sep.auc(clean, defective) - 1e-12 for a in found])
    assert sep.p_value(clean, defective) == expected and 1 / 16 < expected < 1 / 2
    assert sep.p_value(np.arange(5.0), 10 + np.arange(5.0)) == sep.smallest_p(5) == 1 / 32
    assert sep.p_value(10 + np.arange(5.0), np.arange(5.0)) == 1
    monkeypatch.setattr(sep, "SWAPS", 15)  # sampled
    assert 1 / 16 <= sep.p_value(clean, defective) <= 1
    monkeypatch.setattr(sep, "SWAPS", 8_000)
    many = [np.tile(some, 4) + np.arange(16) / 100 for some in (clean, defective)]
    sampled = sep.p_value(*many)
    monkeypatch.setattr(sep, "SWAPS", 2**16)
    assert sampled == pytest.approx(sep.p_value(*many), abs=0.01)


def test_separation_follows_the_orientation_that_was_expected():
    clean, defective = [0.9, 0.91, 0.92, 0.93, 0.94], [0.7, 0.71, 0.72, 0.73, 0.74]
    right, wrong = (sep.separation(clean, defective, expected) for expected in (-1, 1))
    assert (right.auc, right.auc_models, right.verdict) == (1, 1, "reproduced")
    assert (wrong.auc, wrong.auc_models, wrong.verdict) == (0, 0, "not reproduced")
    assert right.effect == -wrong.effect > 0
    assert (right.clean_mean, right.mean) == (pytest.approx(0.92), pytest.approx(0.72))
    assert right.sd == pytest.approx(np.std(defective, ddof=1))


def test_models_and_not_draws_are_the_units_of_test_and_interval():
    rng = np.random.default_rng(1)
    clean, defective = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)) + 9
    found = sep.separation(clean, defective, 1)
    assert found.auc == found.auc_models == 1 and found.p == found.p_floor == 1 / 4
    assert found.verdict == "inconclusive at this scale"
    draws = np.array([[0.0, 0.0, 9.0], [0.0, 0.0, 12.0]])  # means 3 and 4, medians 0
    assert sep.separation(draws, [[1.0, 1.0, 1.0]] * 2, 1).auc_models == 0
    one = np.array([[0.0] * 9, [2.0] * 9])  # one model below the defective ones, one above: all draws move together
    found = sep.separation(one, np.ones((2, 9)), 1)
    assert (found.low, found.auc, found.high) == (0, 0.5, 1)
    with pytest.raises(ValueError, match="one of either per seed"):
        sep.separation([1.0, 2.0], [1.0], 1)


@pytest.mark.parametrize(
    ("auc_models", "high", "p", "floor", "expected"),
    [
        (0.9, 1.0, 0.05, 0.01, REPRODUCED),
        (0.89, 1.0, 0.01, 0.01, INCONCLUSIVE),
        (1.0, 1.0, 0.06, 0.06, INCONCLUSIVE),
        (0.3, 0.69, 0.2, 0.05, NOT_REPRODUCED),
        (0.3, 0.7, 0.2, 0.05, INCONCLUSIVE),  # the interval reaches the bar
        (0.1, 0.4, 1.0, 0.06, INCONCLUSIVE),  # so few models that nothing could have been significant
    ],
)
def test_verdict_rule(auc_models, high, p, floor, expected):
    assert sep.verdict(auc_models, high, p, floor) == expected


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 20), st.integers(2, 12), st.integers(2, 12))
def test_score_interval_holds_the_areas_within_two_errors_of_the_one_found(part, models, others):
    area = part / 20
    low, high = sep.score_interval(area, models, others)

    def inside(t):  # Hanley and McNeil's variance, both sample sizes replaced by their mean, at t
        mean = (models + others) / 2 - 1
        q1, q2 = t / (2 - t), 2 * t * t / (1 + t)
        variance = (t * (1 - t) + mean * (q1 - t * t) + mean * (q2 - t * t)) / (models * others)
        return abs(area - t) <= 1.959964 * math.sqrt(variance)

    grid = [t for t in np.linspace(0, 1, 2001)[1:-1] if inside(t)]
    assert (low, high) == (pytest.approx(grid[0], abs=1e-3), pytest.approx(grid[-1], abs=1e-3))
    assert low <= area <= high and high - low > 0.05
    mirrored = sep.score_interval(1 - area, others, models)
    assert (low, high) == (pytest.approx(1 - mirrored[1], abs=1e-9), pytest.approx(1 - mirrored[0], abs=1e-9))


def test_an_area_below_the_bar_on_few_models_refutes_nothing():
    clean, defective = [1.0, 3.0, 5.0, 7.0, 9.0], [2.0, 4.0, 6.0, 8.0, 0.0]
    found = sep.separation(clean, defective, 1)
    assert found.auc_models == 10 / 25 and found.p_floor < 0.05 and found.models_high > 0.7
    assert found.verdict == INCONCLUSIVE
    many = sep.separation([*clean] * 5, [*defective] * 5, 1)
    assert many.auc_models == 10 / 25 and many.models_high < 0.7 and many.verdict == NOT_REPRODUCED


def test_difference_of_two_numbers_on_the_same_models():
    clean, defective = np.arange(4.0), np.arange(4.0) + 10
    assert sep.difference([((clean, -clean), (defective, -defective))]) == (1, 1, 1)
    assert sep.difference([((clean, clean), (defective, defective))]) == (0, 0, 0)
    mixed = [((clean, -clean), (defective, -defective)), ((clean, clean), (defective, defective))]
    assert sep.difference(mixed) == (0.5, 0.5, 0.5)  # mean over groups


def test_jackknife_leaves_out_a_seed_with_its_row_and_column():
    pairs = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    left = [(1 + 0.5 + 1 + 0.5) / 4, (1 + 0 + 1 + 0.5) / 4, (1 + 0.5 + 0 + 1) / 4]
    error = math.sqrt(2 / 3 * sum((value - sum(left) / 3) ** 2 for value in left))
    reach = 4.302653 * error  # Student's t(0.975) of 2 degrees
    assert sep.jackknife(pairs) == (pytest.approx(5.5 / 9 - reach), pytest.approx(5.5 / 9 + reach))
    assert sep.jackknife(np.ones((1, 1))) == (-math.inf, math.inf)
    rows = np.repeat(np.arange(5.0)[:, None], 5, axis=1)  # of a mean over rows it is Student's interval
    assert sep.jackknife(rows) == pytest.approx(sep.mean_interval(np.arange(5.0)))


def test_difference_keeps_what_shares_a_seed_together():
    # a seed is good in both groups or in none: three groups tell no more than one
    level, tie = np.array([0.0, 0.0, 1.0, 1.0]), np.zeros(4)
    groups = [((tie, tie), (level - 0.5, tie))]
    assert sep.difference(groups * 3) == pytest.approx(sep.difference(groups))
    value, low, high = sep.difference(groups)
    assert value == 0 and low == -high == pytest.approx(-3.182446 * 0.5 / math.sqrt(3))  # deviation of level - 1/2
    # clean and defective values of a seed move together: wrong only where clean is 1 and defective 0.5
    value, low, high = sep.difference([((level, tie), (level + 0.5, tie))])
    assert value == 0.25 and low == pytest.approx(0.25) and high == pytest.approx(0.25)  # any three: 7 of 9 pairs


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, REPRODUCED),
        (-0.2, -0.1, NOT_REPRODUCED),
        (-0.1, 0.1, INCONCLUSIVE),
        (-0.1, 0.0, INCONCLUSIVE),
        (0.0, 0.0, INCONCLUSIVE),  # a tie
        (-0.3, -0.3, INCONCLUSIVE),
        (-1e-17, -1e-18, INCONCLUSIVE),
        (-math.inf, math.inf, INCONCLUSIVE),
    ],
)
def test_ties_are_no_refutation(low, high, expected):
    assert sep.sign(low, high) == expected


def test_the_largest_area_that_is_refuted():
    area = sep.refuted(5)
    assert sep.score_interval(area, 5, 5)[1] < 0.7 <= sep.score_interval(area + 1 / 50, 5, 5)[1]
    assert area == pytest.approx(0.36) and math.isnan(sep.refuted(4)) and area < sep.refuted(10) < 0.7


def test_intervals_without_a_width_are_not_shown():
    assert sep.between(0.25, 0.5) == "[0.250, 0.500]" and sep.between(0.25, 0.5, 1) == "[0.2, 0.5]"
    assert sep.between(1.0, 1.0) == "[no spread]"


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [[[1.0]]]])
def test_values_that_are_missing_are_refused(values):
    with pytest.raises(UnusableInput, match="a value of every model"):
        sep.separation([1.0, 2.0], values, 1)


def test_infinite_values_count_by_rank():
    found = sep.separation([[1.0, 2.0], [3.0, 4.0]], [[math.inf, 2.5], [5.0, 6.0]], 1)
    assert found.auc == (4 + 2 + 4 + 4) / 16 and found.auc_models == 1 and found.mean == math.inf
    assert math.isnan(found.effect) and math.isnan(found.sd)


def test_failed_draws_are_counted_and_decide_nothing():
    clean, defective = np.arange(10.0).reshape(5, 2), np.arange(10.0).reshape(5, 2) + 10
    assert sep.separation(clean, defective, 1).verdict == REPRODUCED
    broken = defective.copy()
    broken[1, 0] = broken[2, 1] = math.inf
    found = sep.separation(clean, broken, 1)
    assert (found.clean_failed, found.failed, found.auc_models, found.verdict) == (0, 2, 1, INCONCLUSIVE)
    swapped = sep.separation(broken, clean, 1)
    assert (swapped.clean_failed, swapped.failed, swapped.verdict) == (2, 0, INCONCLUSIVE)


def test_interval_of_a_mean_by_hand():
    low, high = sep.mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, deviation 1
    assert (low, high) == (pytest.approx(2 - 4.302653 / math.sqrt(3)), pytest.approx(2 + 4.302653 / math.sqrt(3)))
    assert sep.mean_interval([1.0]) == (-math.inf, math.inf)
