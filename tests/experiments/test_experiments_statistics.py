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
from benchmarks.experiments.common import Context
from benchmarks.experiments.measures import trajectories
from benchmarks.experiments.report import INCONCLUSIVE, save

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


# ------------------------------------------------------------------------- verdicts of the two here


def grid_models(seeds: int = 3) -> list[dict]:
    """Models of a grid of all axes but two, eight of each seed, with numbers at random."""
    rng, models = np.random.default_rng(3), []
    constant = {"weight_decay": 0, "batch_size": 0, "dropout": 0}
    for seed, a, b, c in itertools.product(range(seeds), ("sgd", "adam"), range(2), range(2)):
        place = {"optimizer": a, "lr": b, "width": c, **constant, "seed": seed}
        numbers = {name: float(rng.normal()) for name in (*table1.RIVALS, *table1.BESIDE, "gap", "error")}
        draws = rng.normal(size=4).tolist()
        models.append({"place": place, **numbers, "draws": draws, "directional": float(np.mean(draws))})
    return models


def test_coefficients_of_table_1_are_taken_within_seeds_and_draw_by_draw():
    models, axes = grid_models(), ["optimizer", "lr", "width"]
    found = table1.correlations(models, "error")
    groups = [[m for m in models if m["place"]["seed"] == seed] for seed in range(3)]

    def psi(group: list[dict], value: Callable[[dict], float], axes: list[str] = axes) -> float:
        return plain_psi([(m["place"], value(m), m["error"]) for m in group], axes)

    for name in ("directional", "worst_case", "train_loss"):
        entry = found[name]
        assert entry["psi"]["seeds"] == pytest.approx([psi(group, itemgetter(name)) for group in groups])
        taus = [plain_tau([(m[name], m["error"]) for m in group]) for group in groups]
        assert entry["kendall"]["seeds"] == pytest.approx(taus) and entry["kendall"]["mean"] == pytest.approx(
            np.mean(taus)
        )
        assert entry["axes"]["lr"] == pytest.approx(np.mean([psi(g, itemgetter(name), ["lr"]) for g in groups]))
        assert math.isnan(entry["axes"]["dropout"])
        assert (entry["psi"]["low"], entry["psi"]["high"]) == statistics.paired_interval(entry["psi"]["seeds"])
    single = [np.mean([psi(g, lambda m, i=i: m["draws"][i]) for i in range(4)]) for g in groups]
    assert found["single"]["psi"]["seeds"] == pytest.approx(single)
    assert found["single"]["psi"]["seeds"] != pytest.approx(found["directional"]["psi"]["seeds"])
    for own in table1.OWN:
        lead = np.subtract(found[own]["psi"]["seeds"], found["static_sam_ascent"]["psi"]["seeds"])
        assert found["static_sam_ascent"]["lead"][own]["seeds"] == pytest.approx(lead)
        lead = np.subtract(found[own]["psi"]["seeds"], found["log_loss"]["psi"]["seeds"])
        assert found["log_loss"]["lead"][own]["seeds"] == pytest.approx(lead)
    assert found["directional"]["greatest"] == max(m["directional"] for m in models)
    models[5]["draws"][2] = models[5]["directional"] = math.inf
    found = table1.correlations(models, "error")
    assert found["directional"]["greatest"] == found["single"]["greatest"] == math.inf
    assert found["worst_case"]["greatest"] < math.inf


Three = tuple[float, float, float]


def coefficients(psi: Three, leads: list[tuple[float, float]], greatest: float = 1.0, ascent: float = 0.0) -> dict:
    """Of one target; psi: mean, low, high; leads over SAM, ASAM and worst-case sharpness in their first readings."""

    def value(mean: float, low: float, high: float) -> dict:
        return {"seeds": [mean, mean], "mean": mean, "low": low, "high": high}

    own = {"kendall": value(0.3, 0.1, 0.5), "psi": value(*psi), "greatest": greatest}
    found = {"directional": own, "single": own}
    for names, (low, high) in zip(table1.READINGS.values(), leads, strict=True):
        for name, mean in zip(names, (0.1, ascent), strict=False):
            good = name == names[0]
            lead = value(0.0, low, high) if good else value(-0.2, -0.3, -0.1)
            found[name] = {"psi": value(mean, 0, 0), "lead": dict.fromkeys(table1.OWN, lead), "greatest": 1.0}
    return found


AHEAD = [(0.1, 0.2)] * 3


@pytest.mark.parametrize(
    ("given", "fewest", "verdicts"),
    [
        ({"psi": (0.3, 0.1, 0.5), "leads": AHEAD}, 10, ("reproduced", "reproduced")),
        ({"psi": (0.3, 0.1, 0.5), "leads": AHEAD}, 9, ("inconclusive", "inconclusive")),
        ({"psi": (0.3, -0.1, 0.7), "leads": [*AHEAD[:2], (-0.3, 0.1)]}, 16, ("inconclusive", "inconclusive")),
        ({"psi": (0.0, -0.1, 0.09), "leads": [*AHEAD[:2], (-0.3, -0.1)]}, 16, ("not reproduced", "not reproduced")),
        # clearly positive, and clearly negligible
        ({"psi": (0.05, 0.01, 0.09), "leads": [(0, 0)] * 3}, 16, ("not reproduced", "inconclusive")),
        ({"psi": (0.09, 0.01, 0.17), "leads": AHEAD}, 16, ("inconclusive", "reproduced")),
        # the other reading of SAM and ASAM sharpness is the better one, and leads
        ({"psi": (0.3, 0.1, 0.5), "leads": AHEAD, "ascent": 0.2}, 16, ("reproduced", "not reproduced")),
        # a draw failed
        ({"psi": (0.3, 0.1, 0.5), "leads": AHEAD, "greatest": math.inf}, 16, ("inconclusive", "inconclusive")),
        ({"psi": (math.nan,) * 3, "leads": [(math.nan, math.nan)] * 3}, 16, ("inconclusive", "inconclusive")),
        ({"psi": (0.3, -math.inf, math.inf), "leads": AHEAD}, 16, ("inconclusive", "reproduced")),
    ],
)
def test_verdicts_of_table_1_follow_their_rules(given, fewest, verdicts):
    opposite = coefficients((0.0, -0.2, 0.05), [(-0.3, -0.1)] * 3)
    found = table1.claims({"gap": coefficients(**given), "error": opposite}, fewest, draws=7)
    said = [claim.verdict.partition(" at")[0] for claim in found]
    assert said[1:3] == said[4:6] == list(verdicts)  # each target: tau, Psi and the lead, of the mean and of one draw
    assert said[7:9] == said[10:12] == (["not reproduced"] * 2 if fewest >= 10 else ["inconclusive"] * 2)
    assert all("mean over 7 draws" in c.claim for c in (*found[:3], *found[6:9]))
    assert all("a single draw" in c.claim for c in (*found[3:6], *found[9:]))
    assert all("generalisation gap" in c.claim for c in found[:6]) and all("test error" in c.claim for c in found[6:])


@pytest.mark.parametrize(
    ("sam", "verdict"),
    [
        ([0.1, 0.25, 0.1], "reproduced"),
        ([0.1, 0.2, 0.1], "inconclusive"),
        ([2.1, 2.0, 2.2], "not reproduced"),
        ([0, 5, 1], "inconclusive"),
    ],
)
def test_verdicts_of_figure_1_follow_their_rule(sam, verdict):
    found = figure1.claims("lenet5", {"sgd": scored([1.0, 1.1, 1.0]), "sam": scored(sam)})
    assert [claim.verdict.partition(" at")[0] for claim in found] == [verdict] * 2
    assert "lenet5" in found[0].claim
    found = figure1.claims("lenet5", {"sgd": scored([]), "sam": scored([])})
    assert [claim.verdict.partition(" at")[0] for claim in found] == ["inconclusive"] * 2


def scored(values: list[float], accuracies: list[float] | None = None) -> list[dict[str, float]]:
    """Models for figure 1."""
    accuracies = [0.5] * len(values) if accuracies is None else accuracies
    return [
        {"score": v, "sharpness": v, "test_accuracy": a, "train_loss": 0.25}
        for v, a in zip(values, accuracies, strict=True)
    ]


def test_figure_1_says_which_twin_is_the_better_model():
    group = {"sgd": scored([1.0, 1.0, 1.0, 1.0], [0.9, 0.9, 0.7, 0.8]), "sam": scored([0.5, 0.6, 1.5, 0.5], [0.8] * 4)}
    said = figure1.quality("lenet5", group, seeds=5)
    # lower score: SAM, SAM, SGD, SAM; its accuracy: lower, lower, lower, equal; SAM's accuracy is lower in two
    assert "4 of 5 pairs" in said and "lower test accuracy in 3 of them and the higher in 0" in said
    assert "SAM's has the lower test accuracy in 2." in said and "SGD 0.825, SAM 0.800" in said
    assert "none reached" in figure1.quality("lenet5", {"sgd": [], "sam": []}, seeds=2)


def test_pairs_of_figure_1_count_if_both_models_reached_the_loss(tmp_path):
    profile, context = figure1.PROFILES["tiny"], Context(tmp_path)
    [base, matched] = profile.bases.values()
    assert base.until_loss is None and matched.until_loss
    hard = replace(profile, bases={"easy": matched, "hard": matched.but(until_loss=1e-9, epochs=1)})
    result = figure1.run(hard, context)
    assert len(result.tables) == 1 and [len(group["sgd"]) for group in result.values["groups"].values()] == [2, 0]
    assert all(v["train_loss"] <= matched.until_loss for v in result.values["groups"]["easy"]["sam"])
    assert [c.verdict for c in result.claims[2:]] == [INCONCLUSIVE] * 2
    assert any("hard: of 2 pairs none" in said for said in result.notes)


def test_failed_draws_leave_figure_1_inconclusive_and_are_counted(tmp_path, monkeypatch):
    def sometimes(*args: object) -> list:
        found = trajectories(*args)
        return [None, *found[1:]]

    monkeypatch.setattr(figure1, "trajectories", sometimes)
    result = figure1.run(figure1.PROFILES["tiny"], Context(tmp_path))
    assert {claim.verdict for claim in result.claims} == {INCONCLUSIVE}
    model = result.values["groups"]["mlp, 2 epochs"]["sam"][0]
    assert model["score"] == model["sharpness"] == math.inf and np.isfinite(model["sharpness_curve"]).all()
    assert "mlp, 2 epochs, SGD 2 of 4" in result.notes[-1]
    monkeypatch.setattr(figure1, "trajectories", lambda *args: [None, None])
    result = figure1.run(figure1.PROFILES["tiny"], Context(tmp_path))
    assert "SGD 4 of 4" in result.notes[-1]
    save(result, tmp_path, figure1.draw, figure1.FIGURE_SIZE)


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_the_grids_of_table_1_vary_every_axis_at_every_one_of_several_seeds(profile):
    grid = table1.PROFILES[profile]
    runs = grid.runs()
    assert grid.seeds >= 4 and len({recipe for _, recipe in runs}) == len(runs)
    places = [place for place, _ in runs]
    for seed in range(grid.seeds):
        assert sum(place["seed"] == seed for place in places) == len(runs) / grid.seeds >= table1.FEWEST
    for axis in table1.AXES:
        pairs = statistics.axis_pairs(places, axis)
        assert len(pairs.a) >= len(runs) / 4
        assert all(places[a]["seed"] == places[b]["seed"] for a, b in zip(pairs.a, pairs.b, strict=True))
