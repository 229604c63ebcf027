"""Tables 2 to 4: the comparison of kinds of models by hand-computed values, and each table end to end, tiny."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments import separation as sep
from zkcert.errors import UnusableInput

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


# ------------------------------------------------------------------------------------------------- separation


def test_auc_is_the_chance_that_a_defective_model_has_the_larger_value():
    assert sep.auc([1, 2], [3, 4]) == 1
    assert sep.auc([3, 4], [1, 2]) == 0
    assert sep.auc([1, 3], [2, 4]) == 3 / 4
    assert sep.auc([1, 2], [2, 3]) == 3.5 / 4  # the tie counts half
    assert sep.auc([[1, 2], [3, 4]], [[5, 0]]) == 1 / 2


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


def test_permutation_test_counts_the_splits_that_separate_as_well():
    clean, defective = np.array([1.0, 4.0, 2.0]), np.array([3.0, 5.0, 6.0, 7.0])
    values = np.concatenate([clean, defective])
    found = []
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        found.append(sep.auc(values[list(chosen)], values[rest]))
    expected = np.mean([a >= sep.auc(clean, defective) - 1e-12 for a in found])
    assert sep.p_value(clean, defective) == pytest.approx(expected)
    assert sep.p_value(np.arange(4.0), 10 + np.arange(4.0)) == pytest.approx(sep.smallest_p(4, 4)) == 1 / 70


def test_separation_follows_the_orientation_that_was_expected():
    clean, defective = [0.9, 0.91, 0.92, 0.93], [0.7, 0.71, 0.72, 0.73]
    right, wrong = (sep.separation(clean, defective, expected) for expected in (-1, 1))
    assert (right.auc, right.auc_models, right.verdict) == (1, 1, "reproduced")
    assert (wrong.auc, wrong.auc_models, wrong.verdict) == (0, 0, "not reproduced")
    assert right.effect == -wrong.effect > 0
    assert (right.clean_mean, right.mean) == (pytest.approx(0.915), pytest.approx(0.715))
    assert right.sd == pytest.approx(np.std(defective, ddof=1))


def test_models_and_not_draws_are_the_units_of_test_and_interval():
    rng = np.random.default_rng(1)
    clean, defective = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)) + 9
    found = sep.separation(clean, defective, 1)
    assert found.auc == found.auc_models == 1 and found.p == found.p_floor == pytest.approx(1 / 6)
    assert found.verdict == "inconclusive at this scale"
    one = np.array([[0.0] * 9, [2.0] * 9])  # one model below the defective ones, one above: all draws move together
    low, high = sep.interval(one, np.ones((2, 9)))
    assert (low, high) == (0, 1)


@pytest.mark.parametrize(
    ("auc_models", "p", "floor", "expected"),
    [
        (0.9, 0.05, 0.01, "reproduced"),
        (0.89, 0.01, 0.01, "inconclusive at this scale"),
        (1.0, 0.06, 0.06, "inconclusive at this scale"),
        (0.7, 0.2, 0.05, "not reproduced"),
        (0.1, 1.0, 0.05, "not reproduced"),
        (0.1, 1.0, 0.06, "inconclusive at this scale"),
    ],
)
def test_verdict_rule(auc_models, p, floor, expected):
    assert sep.verdict(auc_models, p, floor) == expected


def test_difference_of_two_numbers_on_the_same_models():
    clean, defective = np.arange(4.0), np.arange(4.0) + 10
    assert sep.difference((clean, -clean), (defective, -defective)) == (1, 1, 1)
    assert sep.difference((clean, clean), (defective, defective)) == (0, 0, 0)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [[[1.0]]]])
def test_values_that_are_missing_are_refused(values):
    with pytest.raises(UnusableInput, match="a value of every model"):
        sep.separation([1.0, 2.0], values, 1)


def test_infinite_values_count_by_rank():
    found = sep.separation([[1.0, 2.0], [3.0, 4.0]], [[math.inf, 2.5], [5.0, 6.0]], 1)
    assert found.auc == (4 + 2 + 4 + 4) / 16 and found.auc_models == 1 and found.mean == math.inf
    assert math.isnan(found.effect) and math.isnan(found.sd)


def test_interval_of_a_mean_by_hand():
    low, high = sep.mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, deviation 1
    assert (low, high) == (pytest.approx(2 - 4.302653 / math.sqrt(3)), pytest.approx(2 + 4.302653 / math.sqrt(3)))
    assert sep.mean_interval([1.0]) == (-math.inf, math.inf)
