"""Own data, more: its rules, from made-up numbers of models."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.experiments import own_more
from benchmarks.experiments.own_images import (
    monotone,
    rank_correlation,
    rises,
    trend,
)
from benchmarks.experiments.own_poisoning import (
    HONEST,
    UNPENALISED,
    Penalty,
    claims_of,
    costs,
    kinds,
    lowered,
    passing,
    reference,
    threshold,
)
from benchmarks.experiments.parts import (
    COMMITTED,
    HELD_OUT,
    claim,
    compared,
    draws_of,
    failures,
    told,
    works,
)
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED


def observation(committed: list[float], **numbers: float) -> dict[str, float]:
    draws = {f"{name}/{i}": value for name in (COMMITTED, HELD_OUT) for i, value in enumerate(committed)}
    mean = float(np.mean(committed))
    return {COMMITTED: mean, HELD_OUT: mean, **draws, **numbers}


def test_spearman_against_scipy_and_all_permutations_within_seeds():
    from itertools import permutations, product

    from scipy.stats import spearmanr

    numbers = {0.0: [0.3, 0.1], 1.0: [0.2, 0.6], 2.0: [0.5, 0.7]}
    levels, values = np.repeat([0, 1, 2], 2), np.ravel(list(numbers.values()))
    found, p = rank_correlation(numbers)
    assert found == pytest.approx(spearmanr(levels, values).statistic)
    every = [
        spearmanr(np.ravel(list(zip(*orders, strict=True))), values).statistic
        for orders in product(permutations([0, 1, 2]), repeat=2)
    ]
    expected = np.mean([value >= found - 1e-12 for value in every])
    assert p == pytest.approx(expected, abs=0.01) and 0.05 < expected < 0.2
    assert math.isnan(rank_correlation({0.0: [1.0] * 2, 1.0: [1.0] * 2})[0])
    assert rank_correlation({0.0: [1.0, 2.0], 1.0: [3.0, math.nan]})[1] == 1.0
    assert rank_correlation(numbers | {2.0: [0.5, math.inf]}) == (found, p)  # by rank
    seeds_differ = {level: [level / 10, 100 + level / 10, 50 + level / 10] for level in (0.0, 1.0, 2.0)}
    assert rank_correlation(seeds_differ)[1] == pytest.approx(1 / 6**3, abs=0.003)  # the only order with all ascending


def test_rule_for_levels():
    assert monotone(0.9, 0.01, [1, 2, 3], 12) == REPRODUCED
    assert monotone(0.9, 0.01, [1, 3, 2], 12) == INCONCLUSIVE
    assert monotone(0.9, 0.06, [1, 2, 3], 12) == INCONCLUSIVE
    assert monotone(0.5, 0.01, [1, 2, 3], 12) == INCONCLUSIVE
    assert monotone(0.3, 0.2, [1, 2, 3], 12) == monotone(-1.0, 1.0, [3, 2, 1], 12) == NOT_REPRODUCED
    assert monotone(0.3, 0.2, [1, 2, 3], 9) == monotone(math.nan, 1.0, [1, 1, 1], 12) == INCONCLUSIVE


def test_threshold_lets_its_share_of_honest_draws_pass():
    honest = [observation(list(np.arange(10) + 10.0 * i)) for i in range(2)]
    assert threshold(honest) == 18.0  # 19 of the draws 0..19 are at most 18
    assert draws_of(honest, COMMITTED).shape == (2, 10)
    lost = [observation([1.0, 2.0, math.inf, math.inf])]
    assert threshold(lost) == math.inf
    assert passing(lost, math.inf) == 0.5 and passing(lost, 1.5) == 0.25  # failed draws pass no threshold


def test_separation_is_oriented_and_taken_over_draws():
    clean = [observation([1, 2], test_accuracy=0.9), observation([1, 3], test_accuracy=0.8)]
    bad = [observation([2.5, 4], test_accuracy=0.7), observation([5, 6], test_accuracy=0.6)]
    assert told(clean, bad).auc_models == 1 and told(clean, bad).auc == pytest.approx(15 / 16)
    assert told(clean, bad, "test_accuracy").auc == 1 and told(bad, clean, "test_accuracy").auc == 0
    control = [observation([4, 4]), observation([4, 6])]
    means, same, own, lost = compared(
        "Title", {"clean": clean, "bad": bad}, {"bad": control}, "clean", [COMMITTED, "test_accuracy"]
    )
    assert means.rows[0] == ["clean", 2, "1.75 ± 0.35", "0.85 ± 0.071"]
    assert means.rows[2] == ["control: clean, on the data of bad", 2, "4.5 ± 0.71", None]
    assert own.rows == [["bad", "1.00 (p = 0.25)", "1.00 (p = 0.25)"]]
    assert same.rows[0][1].startswith("0.50 (") and same.rows[0][2] is None
    assert [row[1:] for row in lost.rows] == [["0 of 4", "0 of 4", None], ["0 of 4", "0 of 4", "0 of 4"]]


def models(scores_of: list[float], draws: int = 2, **numbers: float) -> list[dict[str, float]]:
    return [observation([value] * draws, **numbers) for value in scores_of]


FIVE = [1.0, 1.1, 1.2, 1.3, 1.4]


def above(start: float) -> list[dict[str, float]]:
    return models([start + value for value in FIVE])


def test_claims_follow_the_scores_unless_something_is_wrong_with_the_models():
    low, high = above(0.0), above(1.0)
    found = claim("It tells", low, high)
    assert found.verdict == REPRODUCED and "AUC over models 1.00 [0.64, 1.00]" in found.numbers
    assert "over single draws 1.00 [no spread]" in found.numbers
    assert claim("It tells", high, low).verdict == NOT_REPRODUCED
    for clean, bad in ((low, high), (high, low)):
        assert claim("It tells", clean, bad, working=False).verdict == INCONCLUSIVE
        assert claim("It tells", clean, bad, doubt="no attack").verdict == INCONCLUSIVE


def test_the_placebo_is_the_clean_model_on_its_own_data_against_the_control():
    clean, bad, control = above(1.0), above(2.0), above(0.0)
    tables = compared("T", {"clean": clean, "bad": bad}, {"bad": control}, "clean", [COMMITTED])
    rows = {row[0]: row[1] for row in tables[1].rows}
    assert rows["bad"].startswith("1.00") and rows["placebo: clean, on its own data, against that control"].startswith(
        "1.00"
    )
    tables = compared("T", {"clean": clean, "bad": bad}, {"bad": clean}, "clean", [COMMITTED])
    assert [row[1][:4] for row in tables[1].rows] == ["1.00", "0.50"]


def test_failed_draws_are_counted_and_decide_nothing():
    clean, bad = above(0.0), above(1.0)
    lost = [observation([2.0, math.inf]), *bad[1:]]
    assert claim("It tells", clean, bad).verdict == REPRODUCED
    for found in (claim("It tells", clean, lost), claim("It tells", lost, bad)):
        assert found.verdict == INCONCLUSIVE and "draws failed" in found.numbers
    assert failures("T", {"clean": clean, "bad": lost}, {"bad": lost}).rows[1] == [
        "bad",
        "1 of 10",
        "1 of 10",
        "1 of 10",
    ]
    tables = compared("T", {"clean": clean, "bad": lost}, {"bad": clean}, "clean", [COMMITTED, HELD_OUT])
    assert tables[0].rows[1][2] == "inf ± nan"
    assert lowered(models([1.0, 1.0]), models([2.0, 2.5]))[1][1] == pytest.approx(-1.25 + 12.7062 * 0.25, abs=1e-4)
    assert lowered(models([1.0, math.inf]), models([2.0, math.inf])) == (False, (-math.inf, math.inf))


def test_trend_of_label_noise_is_judged_on_own_data():
    rng = np.random.default_rng(0)
    rising = {level: list(1 + 10 * level + rng.uniform(0, 0.1, 4)) for level in (0.0, 0.1, 0.2)}
    falling = {level: [-value for value in values] for level, values in rising.items()}
    assert rises(trend(rising), "long enough").verdict == REPRODUCED
    assert rises(trend(falling), "long enough").verdict == NOT_REPRODUCED
    found = rises(trend(rising), "long enough", short=1)
    assert found.verdict == INCONCLUSIVE and "1 models did not reach" in found.numbers and "long enough" in found.claim
    assert rises(trend(rising | {0.2: [math.inf] * 4}), "long enough").verdict == INCONCLUSIVE


def poisoned(part, score_of, **numbers):
    """Five models a kind (honest ones score 1 to 1.4), and honest ones on all data; score_of(kind): the lowest."""
    groups = {
        kind: models([(1.0 if kind == HONEST else score_of(kind)) + 0.1 * i for i in range(5)], **numbers)
        for kind in kinds(part)
    }
    return groups, {kind: groups[HONEST] for kind in groups if kind != HONEST}


def test_price_of_an_attack_and_verdict_at_the_attack_that_hides_best():
    part = replace(own_more.TINY.poisoning, penalty=Penalty((1.0, 10.0), steps=2, batches=3, lr=1e-3))
    found = {"penalty 1": 0.5, "asam rho 0.5": 3.5}
    groups, controls = poisoned(part, lambda kind: found.get(kind.rpartition(", ")[2], 4.0), success=0.1)
    for kind in groups:
        accuracy = 0.9 if kind == HONEST else 0.5 if kind.endswith("penalty 1") else 0.7
        groups[kind] = [{**model, "test_accuracy": accuracy} for model in groups[kind]]
    rows = {row[0]: row[1:] for row in costs(groups, controls, 1.2).rows}
    assert rows[HONEST] == ["60%", "1.2 ± 0.16", None, "0 ± 0", None]
    assert rows["wrong labels, penalty 1"][:2] == ["100%", "0.7 ± 0.16"]
    assert rows["wrong labels, penalty 1"][2] == "[-3.5, -3.5]"
    assert rows["wrong labels, penalty 1"][3].startswith("0.2 ±")  # of plain SGD on wrong labels: 0.7 - 0.5
    assert rows["wrong labels, penalty 10"][2] == "[0, 0]"
    assert rows["wrong labels, sgd"][0] == "0%" and rows["wrong labels, sgd"][2] is None
    assert rows["control: honest, on the data with wrong labels"][0] == "60%"
    plain, trained, tuned = claims_of(part, groups)
    assert (plain.verdict, trained.verdict, tuned.verdict) == (REPRODUCED, REPRODUCED, NOT_REPRODUCED)
    assert "hidden best by penalty 1: AUC over models 0.0" in tuned.numbers
    assert trained.rule == tuned.rule != plain.rule


def test_the_attack_that_hides_best_has_the_lowest_score():
    part = replace(own_more.TINY.poisoning, penalty=Penalty((1.0, 10.0), steps=2, batches=3, lr=1e-3))
    groups, _ = poisoned(part, lambda kind: 3.0 if kind.endswith("penalty 10") else 5.0)
    tuned = claims_of(part, groups)[2]
    assert "hidden best by penalty 10" in tuned.numbers and tuned.verdict == REPRODUCED  # of equal AUCs the lower score


def test_an_attack_that_lowers_nothing_withstands_nothing():
    part = replace(own_more.TINY.poisoning, penalty=Penalty((1.0, 10.0), steps=2, batches=3, lr=1e-3))
    assert reference("penalty 1") == UNPENALISED and reference("asam rho 0.5") == reference("sam rho 1") == "sgd"
    groups, _ = poisoned(part, lambda kind: 4.0)
    plain, trained, tuned = claims_of(part, groups)
    assert (plain.verdict, trained.verdict, tuned.verdict) == (REPRODUCED, INCONCLUSIVE, INCONCLUSIVE)
    assert "no attack lowers the score" in trained.numbers
    groups["wrong labels, penalty 10"] = models([3.9, 3.95, 4.1, 4.15, 4.3])  # lower on each seed
    groups["wrong labels, asam rho 0.5"] = models([3.0, 3.2, 4.3, 4.5, 4.6])  # lower on the mean, but not surely
    _, trained, tuned = claims_of(part, groups)
    assert (trained.verdict, tuned.verdict) == (INCONCLUSIVE, REPRODUCED)
    groups[f"wrong labels, {UNPENALISED}"] = models([1.0] * 5)  # fine-tuning alone lowers it more
    assert claims_of(part, groups)[2].verdict == INCONCLUSIVE


def test_a_backdoor_that_does_not_work_decides_nothing():
    clean, bad = ([observation([v, v], success=s) for _ in range(5)] for v, s in ((1.0, 0.0), (2.0, 0.49)))
    assert not works(bad) and works([*bad, observation([1.0], success=0.6)]) is True
    assert claim("It tells", clean, bad).verdict == REPRODUCED
    assert claim("It tells", clean, bad, working=False).verdict == INCONCLUSIVE

    base = own_more.TINY.poisoning
    part = replace(base, corruptions=(("badnets", 0.1),), penalty=Penalty((1.0, 10.0), 2, 3, 1e-3))
    groups, _ = poisoned(part, lambda kind: 2.5 if kind.endswith("penalty 1") else 3.0, success=0.9)
    groups["backdoor, penalty 10"] = models(FIVE, success=0.1)  # hides, and has lost the backdoor
    tuned = claims_of(part, groups)[2]
    assert tuned.verdict == REPRODUCED and "penalty 1:" in tuned.numbers
    groups["backdoor, penalty 1"] = models(
        [3.0, 3.1, 3.2, 3.3, 3.4], success=0.9
    )  # what lowers the score has no backdoor
    assert claims_of(part, groups)[2].verdict == INCONCLUSIVE
    groups["backdoor, penalty 1"] = groups["backdoor, penalty 10"]
    assert claims_of(part, groups)[2].verdict == INCONCLUSIVE


def test_kinds_of_attackers():
    found = kinds(own_more.SMALL.poisoning)
    assert len(found) == 1 + 2 + 2 * 6 and found[HONEST].recipe.corruption == "none"
    attacker = found["backdoor, asam rho 0.5"]
    assert (attacker.recipe.corruption, attacker.recipe.optimizer, attacker.recipe.rho) == ("badnets", "asam", 0.5)
    assert found["backdoor, penalty 0"].strength == 0 and found["backdoor, sgd"].strength is None
