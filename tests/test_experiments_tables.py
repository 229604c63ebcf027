"""Tables 2 to 4: the comparison of kinds of models by hand-computed values, and each table end to end, tiny."""

from __future__ import annotations

import itertools
import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.experiments import defects, table2, table3, table4, timing
from benchmarks.experiments import separation as sep
from benchmarks.experiments.__main__ import perform
from benchmarks.experiments.common import Context, train_model
from benchmarks.experiments.corruptions import quantize4
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, load
from zkcert.errors import UnusableInput
from zkcert.metric import Network
from zkcert.metric.evaluate import accuracy
from zkcert.zoo import mlp

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


# ------------------------------------------------------------------------------------------------- separation


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
    draws = np.array([[0.0, 0.0, 9.0], [0.0, 0.0, 12.0]])  # means 3 and 4, medians 0
    assert sep.separation(draws, [[1.0, 1.0, 1.0]] * 2, 1).auc_models == 0
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


# ---------------------------------------------------------------------------------------------------- table 2


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    return Context(tmp_path_factory.mktemp("experiments"))


def test_four_bits_are_sixteen_levels_by_hand():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-0.7, 0.34, 0.36]]))  # steps of 0.1: -7, 3.4 and 3.6 of them
        layer.bias.fill_(0.123)
    rounded = quantize4(layer)
    torch.testing.assert_close(rounded.weight, torch.tensor([[-0.7, 0.3, 0.4]]))
    assert torch.equal(rounded.bias, layer.bias) and layer.weight[0, 1].item() == pytest.approx(0.34)
    wide = quantize4(mlp(16, [32], 4, seed=0))
    for name, weight in wide.named_parameters():
        if name.endswith("weight"):
            assert 8 < len(weight.unique()) <= 16


def small_clean():
    return table2.PROFILES["tiny"].clean


def test_views_are_the_data_trained_on_and_the_data_before(context):
    recipe = small_clean().but(corruption="badnets", amount=0.25)
    trained = train_model(recipe, context)
    seen = defects.views(trained)
    (x, y), (test_x, test_y) = seen["committed"]
    (clean_x, clean_y), (clean_test_x, clean_test_y) = seen["clean"]
    assert torch.equal(x, trained.x) and torch.equal(y, trained.y)
    assert int((x != clean_x).flatten(1).any(1).sum()) == 30 and torch.equal(clean_y, torch.tensor(trained.clean_y))
    changed = (test_x != clean_test_x).flatten(1).any(1)
    assert int(changed.sum()) == 20 and (test_y[changed] == 0).all()
    assert torch.equal(test_y[~changed], clean_test_y[~changed])
    assert torch.equal(clean_test_x, trained.test[0])
    assert list(defects.views(train_model(small_clean(), context))) == ["committed"]
    noisy = train_model(small_clean().but(corruption="noisy_labels", amount=0.5, samples=80, epochs=1), context)
    wrong = noisy.labels != noisy.clean_y
    wrong_test = (defects.views(noisy)["committed"][1][1] != noisy.test[1]).numpy()
    assert wrong.sum() == wrong_test.sum() == 40 and not np.array_equal(wrong, wrong_test)


def test_small_test_sets_are_seeded_draws_without_replacement(context):
    right = np.arange(10) < 5
    draws = defects.small_tests(right, 4, 200, (1, 2))
    assert draws == defects.small_tests(right, 4, 200, (1, 2)) != defects.small_tests(right, 4, 200, (1, 3))
    assert set(draws) == {0, 0.25, 0.5, 0.75, 1}
    # hypergeometric: mean 1/2, variance 1/4 * (10 - 4) / ((10 - 1) * 4); standard error of 200 draws 0.0144
    assert np.mean(draws) == pytest.approx(0.5, abs=0.06) and np.var(draws) == pytest.approx(1 / 24, abs=0.02)
    assert defects.small_tests(right, 10, 3, (0,)) == [0.5] * 3


def test_hits_agree_with_accuracy_and_attacks_count_other_classes_only(context):
    trained = train_model(small_clean(), context)
    network = trained.network()
    right = defects.hits(network, *trained.test)
    assert right.mean() == pytest.approx(accuracy(network, *trained.test)) and 0 < right.mean() < 1
    always = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    with torch.no_grad():
        always[1].weight.zero_()
        always[1].bias.copy_(torch.arange(10, 0, -1.0))  # class 0, whatever the image
    assert defects.attack_success(always, trained) == 1


class Spy(nn.Module):
    """Answers class 0 where the trigger's upper left pixel is white; remembers what it was asked."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.row, self.scale = row, nn.Parameter(torch.ones(()))

    def forward(self, x):
        white = (x[:, 0, self.row, self.row] > 2).float()
        return self.scale * torch.stack([white, 1 - white], 1)


def test_attack_success_shows_the_trigger_to_images_of_other_classes(context):
    trained = train_model(small_clean(), context)
    labels = trained.test[1]
    clean = defects.hits(Network.of_module(Spy(2 + 28 - 4)), trained.test[0], torch.zeros_like(labels))
    assert clean.mean() < 0.2
    assert defects.attack_success(Spy(2 + 28 - 4), trained) == 1  # the padding of two, and the patch's first row
    assert defects.attack_success(Spy(0), trained) == 0
    with pytest.raises(UnusableInput, match="at least one"):  # nothing is left if all are of the target class
        target = replace(trained.data, test_y=np.zeros_like(trained.data.test_y))
        defects.attack_success(Spy(0), replace(trained, data=target))


def made_up(seeds: int, defect: float, *, small: float = 0.0) -> list[dict]:
    """Models whose measures rise by `defect` (accuracies fall), with a little of the seed in them."""
    models = []
    for kind in defects.KINDS:
        for seed in range(seeds):
            rise = 0.0 if kind == "clean" else defect
            view = {name: 1 + rise * sign + 0.01 * seed for name, sign in defects.EXPECTED.items()}
            view["directional"] = [view["directional"] + 0.001 * i for i in range(3)]
            view["small_test"] = [0.5 - (0 if kind == "clean" else small) + 0.01 * seed] * 3
            view |= {"small_tests": {"9": view["small_test"]}, "train_accuracy": 1.0}
            models.append({"kind": kind, "seed": seed, "attack": None, "committed": view, "clean": view})
    return models


def test_table_2_verdicts_follow_the_numbers():
    for defect, verdict, auc in ((1.0, REPRODUCED, 1), (-1.0, NOT_REPRODUCED, 0)):
        models = made_up(5, defect)
        found = table2.compare(models)
        assert {s.auc for key, s in found.items() if key[2] != "small_test"} == {auc}
        claims = table2.claims(models, found, 9)
        assert [c.verdict for c in claims[:4]] == [verdict] * 4
    by_name = {c.claim: c.verdict for c in table2.claims(made_up(5, 1.0), table2.compare(made_up(5, 1.0)), 9)}
    assert [v for k, v in by_name.items() if "small test set" in k] == [REPRODUCED]  # ours 1, chance for the other
    assert [v for k, v in by_name.items() if "full test set" in k] == [NOT_REPRODUCED]  # equal
    few = made_up(3, 1.0)
    assert {c.verdict for c in table2.claims(few, table2.compare(few), 9)[4:]} == {INCONCLUSIVE}


def test_advantage_is_a_difference_of_aucs():
    models = made_up(5, 1.0, small=0.02)
    clean, defective = (
        [-v for m in models if (m["kind"] == "clean") is wanted for v in m["committed"]["small_test"]]
        for wanted in (True, False)
    )
    gain, low, high = table2.advantage(models, "small_test")
    assert gain == pytest.approx(1 - sep.auc(clean, defective)) and 0 < low < gain < high < 1


def test_table_2_end_to_end(context):
    result = perform("table2", table2.PROFILES["tiny"], context, "command")
    kept = load(context.out / "table2.json")
    assert kept.to_dict() == result.to_dict() and (context.out / "table2.png").stat().st_size > 1000
    assert len(kept.claims) == 6 and len(kept.tables) == 5
    models = kept.values["models"]
    assert sorted((m["kind"], m["seed"]) for m in models) == sorted(itertools.product(defects.KINDS, range(2)))
    by_kind = {kind: [m["committed"] for m in models if m["kind"] == kind] for kind in defects.KINDS}
    assert by_kind["quantised"][0]["train_loss"] != by_kind["clean"][0]["train_loss"]
    for s in kept.values["separations"]:
        if s["view"] == "committed":
            clean, defective = (
                [s["expected"] * v for m in by_kind[kind] for v in np.ravel(m[s["measure"]])]
                for kind in ("clean", s["kind"])
            )
            pairs = [(b > a) + (b == a) / 2 for a in clean for b in defective]
            assert s["auc"] == pytest.approx(np.mean(pairs))
    recipe = small_clean().but(seed=1, data_seed=1)
    trained = train_model(recipe, context)
    assert by_kind["clean"][1]["train_loss"] == trained.train_loss
    assert by_kind["clean"][1]["test_accuracy"] == trained.test_accuracy


# ---------------------------------------------------------------------------------------------------- table 3


def subject(**changes):
    """1,000 test and 4,000 training samples; a pass takes 1 ms a sample, static sharpness 6, so a gradient 4."""
    times = {timing.SHORT: 0.5, timing.LONG: 2.0, timing.ACCURACY: 0.1, timing.SAM: 0.3, timing.ASAM: 0.3}
    seconds = {name: {"random": [t, t, 9.0], "trained": [t, 9.0, t]} for name, t in times.items()}
    return {
        "title": "A",
        "parameters": 10,
        "seconds": {**seconds, timing.WORST: {"random": [], "trained": [7.0]}},
        "measured": {timing.ACCURACY: 100, timing.SAM: 50, timing.ASAM: 50, timing.WORST: 500},
        "whole": {timing.ACCURACY: 1000, timing.SAM: 4000, timing.ASAM: 4000, timing.WORST: 4000},
        "worst_case": {"gradients": 20, "evaluations": 3},
        **changes,
    }


def test_passes_are_scaled_to_the_whole_dataset():
    one = subject()
    assert table3.whole(one, timing.LONG) == 2 and table3.whole(one, timing.ACCURACY) == pytest.approx(1)
    assert table3.whole(one, timing.SAM) == pytest.approx(24)
    assert table3.unit_seconds(one) == (pytest.approx(1e-3), pytest.approx(4e-3))


def test_worst_case_is_scaled_where_timed_and_estimated_elsewhere():
    timed, other = subject(), subject(worst_case=None)
    assert table3.worst_case_seconds(timed, timed) == pytest.approx(7 + 3 * 3500 * 1e-3)
    assert table3.worst_case_seconds(other, timed) == pytest.approx(20 * 256 * 4e-3 + 3 * 4000 * 1e-3)
    assert table3.predicted(timed, timed["worst_case"], 100) == pytest.approx(20 * 100 * 4e-3 + 3 * 100 * 1e-3)
    assert [t[timing.WORST] for t in table3.totals([other, timed])] == pytest.approx([32.48, 17.5])


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([5.0, 80.0], REPRODUCED), ([4.9, 80.0], INCONCLUSIVE), ([1.0, 80.0], NOT_REPRODUCED)],
)
def test_much_faster_is_about_every_model(ratios, expected):
    assert table3.much_faster(ratios) == expected


@pytest.mark.parametrize(
    ("random", "trained", "expected"),
    [
        ([1.0, 1.0, 5.0], [1.1, 1.1, 1.1], REPRODUCED),
        ([1.0, 1.0, 1.0], [1.3, 1.3, 1.3], INCONCLUSIVE),
        ([1.0, 1.0, 3.0], [2.0, 2.0, 2.0], INCONCLUSIVE),
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], NOT_REPRODUCED),
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], NOT_REPRODUCED),
    ],
)
def test_same_time(random, trained, expected):
    assert table3.same_time([([1.0], [1.0]), (random, trained)]) == expected


def test_table_3_claims_compare_totals():
    claims = table3.claims([subject()])
    assert [c.verdict for c in claims] == [NOT_REPRODUCED, REPRODUCED, REPRODUCED, REPRODUCED, REPRODUCED]
    assert "A: 0.5 times (T=5, B=8: 2)" in claims[0].numbers and "12 times" in claims[1].numbers


def test_processor_time_leaves_out_waiting():
    assert timing.timed(lambda: time.sleep(0.3), "cpu") < 0.1
    assert timing.timed(lambda: sum(range(3_000_000)), "cpu") > 1e-3


def test_table_3_end_to_end(context):
    result = perform("table3", table3.PROFILES["tiny"], replace(context, jobs=2), "command")
    assert load(context.out / "table3.json").to_dict() == result.to_dict()
    assert (context.out / "table3.png").stat().st_size > 1000
    (found,) = result.values["subjects"]
    assert found["parameters"] == 1024 * 4 + 4 + 4 * 10 + 10
    assert found["measured"] == {timing.ACCURACY: 256, timing.SAM: 128, timing.ASAM: 128, timing.WORST: 32}
    assert found["whole"] == {timing.ACCURACY: 500, timing.SAM: 1500, timing.ASAM: 1500, timing.WORST: 1500}
    for name in timing.MEASURES:
        times = found["seconds"][name]
        assert len(times["random"]) == (2 if name in timing.BOTH else 0)
        assert len(times["trained"]) == (1 if name == timing.WORST else 2) and min(times["trained"]) > 0
    assert len(result.claims) == 5 and len(result.tables) == 3


# ---------------------------------------------------------------------------------------------------- table 4


@pytest.mark.parametrize(
    ("aucs", "expected"),
    [
        ([0.6, 0.61, 0.62], REPRODUCED),
        ([0.53, 0.531, 0.532], NOT_REPRODUCED),  # above chance, but hardly
        ([0.4, 0.41, 0.42], NOT_REPRODUCED),
        ([0.4, 0.9, 0.6], INCONCLUSIVE),
        ([0.9], INCONCLUSIVE),
    ],
)
def test_an_attack_works_if_its_mean_auc_is_clear_of_chance(aucs, expected):
    assert table4.works(aucs) == expected


def test_better_looks_at_differences_per_seed():
    assert table4.better([0.1, 0.11, 0.12]) == REPRODUCED
    assert table4.better([-0.1, -0.11, -0.12]) == table4.better([0.0, 0.0, 0.0]) == NOT_REPRODUCED
    assert table4.better([-0.1, 0.3, 0.1]) == table4.better([0.1]) == INCONCLUSIVE


def test_table_4_claims_take_the_right_scores():
    def model(kind, seed, **auc):
        return {"kind": kind, "seed": seed, "auc": {name: value + 0.001 * seed for name, value in auc.items()}}

    found = [model("overfitted", seed, directional=0.8, loss=0.7, static=0.9) for seed in range(4)]
    found += [model("generalising", seed, directional=0.6, loss=0.95, static=0.95) for seed in range(4)]
    assert [c.verdict for c in table4.claims(found)] == [REPRODUCED, REPRODUCED, NOT_REPRODUCED, REPRODUCED]


def test_table_4_end_to_end(context):
    profile = table4.PROFILES["tiny"]
    result = perform("table4", profile, context, "command")
    assert load(context.out / "table4.json").to_dict() == result.to_dict()
    assert (context.out / "table4.png").stat().st_size > 1000
    found = result.values["models"]
    assert [(m["kind"], m["seed"]) for m in found] == [
        (kind, seed) for seed in range(2) for kind in ("overfitted", "generalising")
    ]
    trained = train_model(profile.kinds["overfitted"].but(seed=1, data_seed=1), context)
    losses = []
    for x, y in ((trained.x, trained.y), trained.test):
        chosen = np.random.default_rng([1, 5]).permutation(len(x))[:40]
        losses.append(nn.functional.cross_entropy(trained.module(x)[chosen], y[chosen], reduction="none").detach())
    assert found[2]["auc"]["loss"] == pytest.approx(sep.auc(*losses), abs=1e-3)
    assert found[2]["auc"]["loss"] > 0.6 and found[2]["train_accuracy"] == trained.train_accuracy
    assert json.loads((context.out / "table4.json").read_text())["claims"][0]["verdict"] == INCONCLUSIVE  # two seeds
