"""The experiments' rank correlations and intervals, and the verdicts of table 1 and figure 1."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments import figure1, statistics, table1

# -------------------------------------------------------------------------------------- statistics


def plain_tau(pairs: list[tuple[float, float]]) -> float:
    """Jiang et al., Eq. 2, as printed: over all ordered pairs of different models."""
    ordered = list(itertools.permutations(pairs, 2))
    return sum(np.sign(m1 - m2) * np.sign(g1 - g2) for (m1, g1), (m2, g2) in ordered) / len(ordered)


def plain_psi(models: list[tuple[dict, float, float]], axes: list[str]) -> float:
    """Eq. 6: the mean over axes of the mean over settings of the others of tau along the axis."""
    psis = []
    for axis in axes:
        taus = []
        for setting in {tuple(v for k, v in sorted(c.items()) if k != axis) for c, _, _ in models}:
            there = [(m, g) for c, m, g in models if tuple(v for k, v in sorted(c.items()) if k != axis) == setting]
            if len(there) > 1:
                taus.append(plain_tau(there))
        if taus:
            psis.append(sum(taus) / len(taus))
    return sum(psis) / len(psis)


def test_psi_of_an_example_by_hand():
    """Two axes with two and three levels. Along a: +1, -1, +1, mean 1/3. Along b: a = 0 gives 1/3, a = 1 gives 1."""
    places = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1, 2)]
    measure, target = np.array([1.0, 3, 2, 4, 5, 6]), np.array([1.0, 2, 3, 7, 1.5, 9])
    axes = {axis: statistics.axis_pairs(places, axis) for axis in ("a", "b")}
    assert statistics.concordance(measure, target, axes["a"]) == pytest.approx(1 / 3)
    # along b, a = 0: (1,1) (3,2) (2,3): two of three pairs agree, (2 - 1) / 3; a = 1: (4,7) (5,1.5) (6,9): again 1/3
    assert statistics.concordance(measure, target, axes["b"]) == pytest.approx(1 / 3)
    assert statistics.granulated(measure, target, axes) == pytest.approx(1 / 3)


small_values = st.lists(st.integers(0, 5), min_size=12, max_size=12)


@given(measure=small_values, target=small_values, kept=st.sets(st.integers(0, 11), min_size=4))
def test_coefficients_agree_with_the_formulas_as_printed(measure, target, kept):
    places = [{"a": a, "b": b, "seed": s} for a in range(3) for b in range(2) for s in range(2)]
    index = sorted(kept)
    models = [(places[i], float(measure[i]), float(target[i])) for i in index]
    m, g = np.array(measure, float)[index], np.array(target, float)[index]
    axes = {axis: statistics.axis_pairs([places[i] for i in index], axis) for axis in ("a", "b")}
    whole = statistics.all_pairs(len(index))
    assert statistics.concordance(m, g, whole) == pytest.approx(plain_tau([(a, b) for _, a, b in models]))
    found = statistics.granulated(m, g, axes)
    if all(len(pairs.a) == 0 for pairs in axes.values()):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(plain_psi(models, ["a", "b"]))
    # twice every model is the same population: only pairs of different models count
    assert statistics.concordance(m, g, whole, np.full(len(index), 2.0)) == pytest.approx(
        statistics.concordance(m, g, whole)
    )


def test_weights_count_models_as_often_as_they_say():
    rng = np.random.default_rng(0)
    m, g, w = rng.normal(size=6), rng.normal(size=6), np.array([2.0, 0, 1, 3, 1, 0])
    pairs = [(i, j) for i, j in itertools.combinations(range(6), 2)]
    signs = [np.sign(m[i] - m[j]) * np.sign(g[i] - g[j]) for i, j in pairs]
    weights = [w[i] * w[j] for i, j in pairs]
    expected = np.average(signs, weights=weights)
    assert statistics.concordance(m, g, statistics.all_pairs(6), w) == pytest.approx(expected)


def test_spearman_agrees_with_scipy_and_takes_counts():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    m, g = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    assert statistics.spearman(m, g) == pytest.approx(spearmanr(m, g).statistic)
    w = rng.integers(0, 3, 30)
    expected = spearmanr(np.repeat(m, w), np.repeat(g, w)).statistic
    assert statistics.spearman(m, g, w.astype(float)) == pytest.approx(expected)
    assert math.isnan(statistics.spearman(np.ones(5), np.arange(5.0)))


def test_bootstrap_intervals_cover_the_mean_of_a_sample():
    values = np.random.default_rng(2).normal(3, 1, 400)
    samples = statistics.bootstrap(lambda w: float(np.average(values, weights=w)), 400, draws=500)
    low, high = statistics.interval(samples)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert np.array_equal(samples, statistics.bootstrap(lambda w: float(np.average(values, weights=w)), 400, draws=500))
    assert statistics.interval(np.array([math.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, statistics.interval(np.array([math.nan]))))


def test_students_interval_of_an_example_from_the_tables():
    """Mean 2, deviation 1, n = 3: 2 -+ 4.3027 / sqrt(3)."""
    assert statistics.paired_interval([1, 2, 3]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert statistics.paired_interval([1]) == (-math.inf, math.inf)


# ------------------------------------------------------------------------- verdicts of the two here


def coefficients(psi: tuple[float, float, float], leads: list[tuple[float, float]]) -> dict:
    return {
        "directional": {"kendall": [0.3, 0.1, 0.5], "psi": list(psi)},
        **{rival: {"lead": list(lead)} for rival, lead in zip(table1.RIVALS, leads, strict=True)},
    }


@pytest.mark.parametrize(
    ("psi", "leads", "count", "verdicts"),
    [
        ((0.3, 0.1, 0.5), [(0.1, 0.2)] * 3, 60, ("reproduced", "reproduced")),
        ((0.0, -0.1, 0.09), [(0.1, 0.2), (0.1, 0.2), (-0.3, -0.1)], 60, ("not reproduced", "not reproduced")),
        ((0.1, -0.1, 0.3), [(0.1, 0.2), (0.1, 0.2), (-0.3, 0.1)], 60, ("inconclusive", "inconclusive")),
        ((0.3, 0.1, 0.5), [(0.1, 0.2)] * 3, 9, ("inconclusive", "inconclusive")),
        ((math.nan,) * 3, [(math.nan, math.nan)] * 3, 60, ("inconclusive", "inconclusive")),
    ],
)
def test_verdicts_of_table_1_follow_their_rules(psi, leads, count, verdicts):
    found = table1.claims(coefficients(psi, leads), count)
    assert [claim.verdict.partition(" at")[0] for claim in found[1:]] == list(verdicts)


@pytest.mark.parametrize(
    ("sam", "verdict"),
    [([0.1, 0.2, 0.1], "reproduced"), ([2.1, 2.0, 2.2], "not reproduced"), ([0, 5, 1], "inconclusive")],
)
def test_verdicts_of_figure_1_follow_their_rule(sam, verdict):
    def models(values: list[float]) -> list[dict[str, float]]:
        return [{"score": v, "sharpness": v} for v in values]

    found = figure1.claims("lenet5", {"sgd": models([1.0, 1.1, 1.0]), "sam": models(sam)})
    assert [claim.verdict.partition(" at")[0] for claim in found] == [verdict] * 2
    assert "lenet5" in found[0].claim


def test_the_grid_of_table_1_is_full_and_pairs_levels_across_optimisers():
    grid = table1.PROFILES["small"]
    runs = grid.runs()
    assert len({recipe.digest for _, recipe in runs}) == len(runs) == 64 * grid.seeds
    places = [place for place, _ in runs]
    for axis in table1.AXES:
        pairs = statistics.axis_pairs(places, axis)
        assert len(pairs.a) == len(runs) / 2  # two levels everywhere
        assert all(places[a]["seed"] == places[b]["seed"] for a, b in zip(pairs.a, pairs.b, strict=True))
