"""Tables 3 and 4: claims and verdicts by made-up values, and each table end to end, tiny."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments import separation as sep
from benchmarks.experiments import table3, table4, timing
from benchmarks.experiments.__main__ import perform
from benchmarks.experiments.common import Context, train_model
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, load
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe
from zkcert.metric.membership import Membership


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    return Context(tmp_path_factory.mktemp("experiments"))


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
    claims = table3.claims([subject()])  # the short probe: 0.5 s; a pass over the test set 1 s, worst-case 17.5 s
    assert [c.id for c in claims[:2]] == ["t3-accuracy", "t3-worst"] and not any(c.id for c in claims[2:])
    assert [c.verdict for c in claims] == [INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, REPRODUCED, REPRODUCED]
    assert "A: 2 times" in claims[0].numbers and "A: 35 times" in claims[1].numbers and "12 times" in claims[2].numbers
    quick = subject()
    quick["seconds"][timing.SHORT]["trained"] = [0.015]
    assert [c.verdict for c in table3.claims([quick])[:2]] == [REPRODUCED, REPRODUCED]
    assert [c.verdict for c in table3.claims([quick, subject()])[:2]] == [INCONCLUSIVE, NOT_REPRODUCED]
    slow = subject()
    slow["seconds"][timing.SHORT]["trained"] = [1.0]
    assert table3.claims([slow])[0].verdict == NOT_REPRODUCED


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
    assert table4.works([0.5, 0.5, 0.5]) == INCONCLUSIVE  # ties only, no spread to judge by


def test_better_looks_at_differences_per_seed():
    assert table4.better([0.1, 0.11, 0.12]) == REPRODUCED
    assert table4.better([-0.1, -0.11, -0.12]) == NOT_REPRODUCED
    assert table4.better([-0.1, 0.3, 0.1]) == table4.better([0.1]) == INCONCLUSIVE
    assert table4.better([0.0, 0.0, 0.0]) == INCONCLUSIVE  # two AUCs of 1 on every model


def attacked(kind, seed, **auc):
    found = {"kind": kind, "seed": seed, "vanished": [0, 0], "diverged": [0, 0]}
    values = {name: value + 0.001 * seed**2 for name, value in auc.items()}
    return found | {"auc": values, "accuracy": values}


def test_table_4_claims_take_the_right_scores():
    def models():
        found = [
            attacked("overfitted", seed, directional=0.8, loss=0.7 - 0.01 * seed, static=0.9 + 0.01 * seed)
            for seed in range(4)
        ]
        return found + [attacked("generalising", seed, directional=0.6, loss=0.95, static=0.95) for seed in range(4)]

    verdicts = [REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED, REPRODUCED]  # better than loss, worse than static
    assert [c.verdict for c in table4.claims(models())] == verdicts
    assert [c.id for c in table4.claims(models())] == ["", "t4-auc", "t4-acc", ""]
    ahead = [m | {"auc": m["auc"] | {"static": m["auc"]["loss"]}} for m in models()]
    assert [c.verdict for c in table4.claims(ahead)][1:3] == [REPRODUCED, NOT_REPRODUCED]
    for key in ("vanished", "diverged"):
        failed = models()
        failed[7][key] = [0, 1]
        assert [c.verdict for c in table4.claims(failed)] == [*verdicts[:3], INCONCLUSIVE]
        failed[0][key] = [1, 0]
        assert [c.verdict for c in table4.claims(failed)] == [INCONCLUSIVE] * 4


def test_examples_that_diverge_are_counted_and_ranked_above_all():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    network, probe = Network.of_module(layer), Probe(steps=3, batch_size=1)
    x, y = torch.randn(4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3
    alone, none = table4.scored(network, x, y, probe)
    x[2] = math.inf
    found, lost = table4.scored(network, x, y, probe)
    assert (none, lost) == (0, 1) and len(found.vanished) == 4
    for name in ("loss", "static", "directional"):
        scores, before = getattr(found, name), getattr(alone, name)
        np.testing.assert_allclose(scores[[0, 1, 3]], before[[0, 1, 3]])
        assert scores[2] == np.finfo(np.float64).max
    whole = Membership.of(alone, found).results["directional"]
    assert whole.auc == pytest.approx(sep.auc(alone.directional, found.directional))
    with pytest.raises(UnusableInput, match="diverges"):
        table4.scored(network, torch.full_like(x, math.inf), y, probe)


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
