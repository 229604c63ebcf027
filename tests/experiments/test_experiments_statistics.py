"""The experiments' rank correlations and intervals, and the verdicts of table 1 and figure 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.experiments import figure1, statistics, table1
from benchmarks.experiments.common import Context, train_model

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


@settings(deadline=None)
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


def test_spearman_agrees_with_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    m, g = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    assert statistics.spearman(m, g) == pytest.approx(spearmanr(m, g).statistic)
    assert math.isnan(statistics.spearman(np.ones(5), np.arange(5.0)))


def test_students_interval_of_an_example_from_the_tables():
    """Mean 2, deviation 1, n = 3: 2 -+ 4.3027 / sqrt(3)."""
    assert statistics.paired_interval([1, 2, 3]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    for alike in ([1], [], [0, 0, 0], [0.1, 0.1, 0.3 - 0.2]):
        assert statistics.paired_interval(alike) == (-math.inf, math.inf)
    assert all(map(math.isnan, statistics.paired_interval([1, math.nan, 2])))
    assert all(map(math.isnan, statistics.paired_interval([1, math.inf])))
    found = statistics.over_seeds([1, 2, 3])
    assert found["seeds"] == [1, 2, 3] and found["mean"] == 2
    assert (found["low"], found["high"]) == statistics.paired_interval([1, 2, 3])


# ---------------------------------------------------------------------------- table 1 and figure 1


def grid_models(seeds: int = 3) -> list[dict]:
    """Models of a grid of three axes, eight of each seed, with numbers at random."""
    rng, models = np.random.default_rng(3), []
    constant = {"weight_decay": 0, "batch_size": 0, "dropout": 0}
    for seed, a, b, c in itertools.product(range(seeds), ("sgd", "adam"), range(2), range(2)):
        place = {"optimizer": a, "lr": b, "network": c, **constant, "seed": seed}
        numbers = {name: float(rng.normal()) for name in (*table1.WHOLE, *table1.TARGETS)}
        models.append(
            {"place": place, **numbers, **{name: rng.normal(size=4).tolist() for name in table1.DRAWN_COLUMNS}}
        )
    return models


def test_coefficients_of_table_1_are_taken_within_seeds_of_means_and_draw_by_draw():
    models, axes = grid_models(), ["optimizer", "lr", "network"]
    found = table1.correlations(models, "gap")
    groups = [[m for m in models if m["place"]["seed"] == seed] for seed in range(3)]

    def psi(group: list[dict], value: Callable[[dict], float], axes: list[str] = axes) -> float:
        return plain_psi([(m["place"], value(m), m["gap"]) for m in group], axes)

    for name in ("worst_case", "train_loss"):
        entry = found[name]
        assert "single" not in entry
        assert entry["psi"]["seeds"] == pytest.approx([psi(group, itemgetter(name)) for group in groups])
        taus = [plain_tau([(m[name], m["gap"]) for m in group]) for group in groups]
        assert entry["kendall"]["seeds"] == pytest.approx(taus)
        assert entry["kendall"]["mean"] == pytest.approx(np.mean(taus))
        assert entry["axes"]["lr"] == pytest.approx(np.mean([psi(g, itemgetter(name), ["lr"]) for g in groups]))
        assert math.isnan(entry["axes"]["dropout"])
        assert (entry["psi"]["low"], entry["psi"]["high"]) == statistics.paired_interval(entry["psi"]["seeds"])
    ours = table1.OURS
    assert found[ours]["psi"]["seeds"] == pytest.approx([psi(g, lambda m: float(np.mean(m[ours]))) for g in groups])
    single = [np.mean([psi(g, lambda m, i=i: m[ours][i]) for i in range(4)]) for g in groups]
    assert found[ours]["single"]["psi"]["seeds"] == pytest.approx(single) != found[ours]["psi"]["seeds"]
    ahead = table1.lead(found[ours], found["static_asam"], "kendall")
    taus = [found[name]["kendall"]["seeds"] for name in (ours, "static_asam")]
    assert ahead["seeds"] == pytest.approx(np.subtract(*taus))
    assert found[ours]["greatest"] == max(max(m[ours]) for m in models)
    models[5][ours][2] = math.inf
    found = table1.correlations(models, "gap")
    assert found[ours]["greatest"] == math.inf > found["worst_case"]["greatest"]


Levels = dict[str, float | list[float]]


def coefficients(levels: Levels, single: float = 0.3, greatest: float = 1.0) -> dict:
    """Of the gap: the level of every coefficient of the measures given, else about 0; five seeds differ a little."""

    def value(level: float, i: int = 0) -> dict:
        return statistics.over_seeds([level + d * (1 + 0.1 * i) for d in (-0.002, -0.001, 0.0, 0.001, 0.002)])

    found = {}
    for i, name in enumerate(table1.COLUMNS):
        level = levels.get(name, 0.001 * i)
        three = level if isinstance(level, list) else [level] * 3
        entry = {key: value(v, i) for key, v in zip(table1.COEFFICIENTS, three, strict=True)}
        one = {key: value(single) for key in table1.COEFFICIENTS}
        found[name] = {**entry, "single": one, "greatest": greatest if name == table1.OURS else 1.0}
    return found


OURS, RAW = table1.OURS, table1.column("std_sharpness")
YES, NO, OPEN = "reproduced", "not reproduced", "inconclusive"


@pytest.mark.parametrize(
    ("given", "fewest", "verdicts"),
    [
        ({"levels": {OURS: 0.5}}, 10, [YES, YES, YES, YES, YES, YES]),
        ({"levels": {OURS: 0.5}}, 9, [OPEN] * 6),
        ({"levels": {OURS: 0.5}, "greatest": math.inf}, 10, [OPEN, OPEN, OPEN, OPEN, OPEN, YES]),  # a draw failed
        ({"levels": {OURS: 0.05}, "single": 0.0}, 10, [NO, NO, OPEN, OPEN, OPEN, NO]),
        # a lead in two coefficients, none in the third; a clear one of the other's in one of three refutes
        ({"levels": {OURS: 0.5, "static_asam": [0.1, 0.5, 0.1]}}, 10, [YES, YES, OPEN, YES, YES, NO]),
        ({"levels": {OURS: 0.5, "worst_case": [0.1, 0.1, 0.9]}}, 10, [YES, YES, YES, NO, YES, YES]),
        ({"levels": {OURS: 0.5, RAW: 0.9}}, 10, [YES, YES, YES, YES, NO, YES]),
        ({"levels": {OURS: 0.5, "test_accuracy": 0.8}}, 10, [YES, YES, YES, YES, YES, NO]),
    ],
)
def test_verdicts_of_table_1_follow_the_file_of_claims(given, fewest, verdicts):
    levels = {name: 0.01 for name in table1.COLUMNS} | given.pop("levels")
    if levels[OURS] == 0.05:  # equal to its rivals
        levels |= {name: 0.05 for name in table1.COLUMNS}
    found = table1.claims(coefficients(levels, **given), fewest)
    assert [c.id for c in found] == ["t1-kendall", "t1-single", "t1-asam", "t1-worst", "t1-raw", "t3-kendall"]
    assert [c.verdict.partition(" at")[0] for c in found] == verdicts


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_the_grids_of_table_1_vary_every_axis_at_every_one_of_several_seeds(profile):
    grid = replace(table1.PROFILES[profile], seeds=2)
    runs = grid.runs()
    assert table1.PROFILES[profile].seeds >= 5 and len({recipe for _, recipe in runs}) == len(runs)
    assert len(runs) == 2 * (1152 if profile == "paper" else 64)
    assert {recipe.seed for _, recipe in runs} == {100, 101}
    places = [place for place, _ in runs]
    for seed in grid.numbers:
        assert sum(place["seed"] == seed for place in places) == len(runs) / 2 >= table1.FEWEST
    for axis in table1.AXES:
        pairs = statistics.axis_pairs(places[: len(runs) // 2], axis)
        assert len(pairs.a) >= len(runs) / 8


# ------------------------------------------------------------------------------------------- figure 1


def runs_of(score: float, static: float, gap: float, seeds: int = 3, epochs: int = 4) -> list[dict]:
    """Models whose quantities differ a little by seed and by epoch."""
    return [
        {
            "seed": seed,
            "epochs": [
                {
                    **dict.fromkeys(figure1.QUANTITIES, 1.0),
                    "score": score + 0.01 * seed,
                    "static_asam": static * (1 + 0.01 * seed + 0.001 * epoch),
                    "gap": gap + 0.01 * seed,
                    "draws": [score],
                }
                for epoch in range(epochs)
            ],
        }
        for seed in range(seeds)
    ]


def test_verdicts_of_figure_1_follow_the_file_of_claims():
    course = replace(figure1.PROFILES["tiny"], end=2)

    def said(sgd: tuple, sam: tuple, spoil: Callable[[list], None] = lambda models: None) -> list[str]:
        pairs = {"sgd": runs_of(*sgd), "sam": runs_of(*sam)}
        for i, run in enumerate(pairs["sam"]):  # so that differences are not all equal
            for e in run["epochs"]:
                e["score"], e["gap"], e["static_asam"] = (
                    e[k] * (1 + 0.01 * i) for k in ("score", "gap", "static_asam")
                )
        spoil(pairs["sam"])
        claims = figure1.claims(pairs, course)
        assert [c.id for c in claims] == ["f1-directional", "f1-static", "f1-gap"]
        return [c.verdict.partition(" at")[0] for c in claims]

    assert said((1.0, 1.0, 0.3), (0.5, 2.0, 0.2)) == [YES, YES, YES]
    assert said((0.5, 2.0, 0.2), (1.0, 1.0, 0.3)) == [NO, NO, NO]

    def crossing(models: list) -> None:
        models[0]["epochs"][0]["score"] = models[1]["epochs"][1]["score"] = 1.4  # 10 of 12 epochs are left

    assert said((1.0, 1.0, 0.3), (0.5, 2.0, 0.2), crossing)[0] == OPEN

    def failing(models: list) -> None:
        models[2]["epochs"][3]["score"] = math.inf

    assert said((1.0, 1.0, 0.3), (0.5, 2.0, 0.2), failing) == [OPEN, YES, YES]


def test_figure_1_measures_the_last_epochs_of_an_ordinary_training(tmp_path):
    profile, context = figure1.PROFILES["tiny"], Context(tmp_path)
    recipe = profile.base.but(optimizer="sam", seed=100, data_seed=100)
    found = figure1.course(profile, recipe, context)
    assert len(found["epochs"]) == 3
    trained = train_model(recipe, context)
    assert found["epochs"][-1]["train_loss"] == pytest.approx(trained.train_loss, rel=1e-6)
    assert found["epochs"][-1]["gap"] == pytest.approx(trained.gap, rel=1e-5, abs=1e-7)
    earlier = train_model(recipe.but(epochs=3), context)  # the rate is constant
    assert found["epochs"][-2]["test_loss"] == pytest.approx(earlier.test_loss, rel=1e-6)
    before = {path: path.stat().st_mtime_ns for path in context.cache.iterdir()}
    assert figure1.course(profile, recipe, context) == found
    assert before == {path: path.stat().st_mtime_ns for path in context.cache.iterdir()}
