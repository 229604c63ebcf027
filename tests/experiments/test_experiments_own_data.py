"""Own data: views, controls, claims and verdicts by made-up values, and the experiment end to end, tiny."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments import defects, own_data
from benchmarks.experiments import own_verdicts as verdicts
from benchmarks.experiments import separation as sep
from benchmarks.experiments.__main__ import perform
from benchmarks.experiments.common import Context, train_model
from benchmarks.experiments.corruptions import quantize4
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, load
from zkcert.errors import UnusableInput
from zkcert.metric import Network
from zkcert.metric.evaluate import accuracy
from zkcert.zoo import mlp


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
    return own_data.PROFILES["tiny"].trainings["3 epochs"]


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


def made_up(seeds: int, defect: float, *, small: float = 0.0, data: float = 0.0) -> list[dict]:
    """Models whose measures rise by `defect` (accuracies fall), and by `data` on corrupted data; a little by the seed.

    small  by how much accuracy on a small test set falls.
    """

    def view(rise, seed, fall):
        found = {name: 1 + rise * sign + 0.01 * seed for name, sign in defects.EXPECTED.items()}
        found["directional"] = [found["directional"] + 0.001 * i for i in range(3)]
        found["small_test"] = [0.5 - fall + 0.01 * seed] * 3
        return found | {"small_tests": {"9": found["small_test"]}, "train_accuracy": 1.0}

    models = []
    for kind in defects.KINDS:
        for seed in range(seeds):
            bad = kind != "clean"
            own, fall = defect * bad, small * bad
            attack = 0.9 if kind == "badnets" else None
            model = {"kind": kind, "seed": seed, "attack": attack, "reached": True, "clean": view(own, seed, fall)}
            model["committed"] = view(own + data * bad, seed, fall)
            models.append(model | ({"control": view(data, seed, 0)} if bad else {}))
    return models


def claims_of(models):
    return verdicts.claims(models, verdicts.compare(models), 9, "long enough")


def test_verdicts_on_own_data_follow_the_numbers():
    for defect, verdict, auc in ((1.0, REPRODUCED, 1), (-1.0, NOT_REPRODUCED, 0)):
        models = made_up(5, defect)
        found = verdicts.compare(models)
        assert {s.auc for (view, _, name), s in found.items() if name != "small_test" and view != "placebo"} == {auc}
        assert {s.auc for (view, *_), s in found.items() if view == "placebo"} == {0.5}
        claims = claims_of(models)
        assert [c.verdict for c in claims[:4]] == [verdict] * 4
    models = made_up(5, 1.0)
    small, full = claims_of(models)[4:]
    assert "small test set (9 samples" in small.claim and "single draw" in small.claim
    assert small.verdict == REPRODUCED  # ours 1, chance for the other
    assert "full test set" in full.claim and full.verdict == INCONCLUSIVE  # both 1: a tie
    few = made_up(3, 1.0)
    assert {c.verdict for c in claims_of(few)[4:]} == {INCONCLUSIVE}


def test_what_the_data_do_is_not_put_down_to_the_models():
    models = made_up(5, 0.0, data=1.0)
    found = verdicts.compare(models)
    assert found["committed", "badnets", "directional"].verdict == REPRODUCED  # each on data of its own
    assert found["control", "badnets", "directional"].auc == 0.5
    claims = claims_of(models)
    assert claims[2].verdict == REPRODUCED and "AUC over models 1.000" in claims[2].numbers
    assert found["placebo", "badnets", "directional"].auc == 0  # what the data do to well-trained models, reversed


def test_models_short_of_the_common_loss_leave_everything_open():
    models = made_up(5, 1.0)
    models[3]["reached"] = False
    claims = claims_of(models)
    assert {c.verdict for c in claims} == {INCONCLUSIVE}
    assert all("1 models did not reach it" in c.numbers and c.claim.endswith("(long enough)") for c in claims)


def test_advantages_are_shown_of_every_other_measure():
    table = verdicts.tables(made_up(5, 1.0, small=0.005), verdicts.compare(made_up(5, 1.0)), "long enough")[1]
    rows = {row[0]: row[1:] for row in table.rows}
    assert set(rows) == set(defects.LABELS.values()) - {"directional sharpness"}
    assert rows["Std(log L_t)"] == ["0.00 [no spread]"] * 4
    assert [cell[:3] for cell in rows["test accuracy, small"]] == ["0.4", "0.4", "0.0", "0.4"]  # no defect in the third


def test_a_backdoor_that_does_not_work_leaves_its_claims_open():
    models = made_up(5, 1.0)
    for model in models:
        model["attack"] = 0.4 if model["kind"] == "badnets" else None
    claims = claims_of(models)
    assert [c.verdict for c in claims[:4]] == [REPRODUCED, REPRODUCED, INCONCLUSIVE, REPRODUCED]
    assert "does not work (success 40%)" in claims[2].numbers


def test_failed_draws_of_the_probe_are_printed_and_leave_it_open():
    models = made_up(5, 1.0)
    next(m for m in models if m["kind"] == "spurious")["committed"]["directional"][1] = math.inf
    claims = claims_of(models)
    assert [c.verdict for c in claims[:4]] == [REPRODUCED, INCONCLUSIVE, REPRODUCED, REPRODUCED]
    assert [c.verdict for c in claims[4:]] == [INCONCLUSIVE] * 2
    assert "0 and 1 draws failed" in claims[1].numbers and "failed" not in claims[0].numbers
    rows = {row[0]: row[1:] for row in verdicts.failures(models, "T").rows}
    assert rows["spurious features"] == ["1 of 15", "0 of 15", "0 of 15"]
    assert rows["well-trained"] == ["0 of 15", "0 of 15", None]


@pytest.mark.parametrize(
    ("interval", "seeds", "failed", "expected"),
    [
        ((0.1, 0.2), 5, 0, REPRODUCED),
        ((-0.1, 0.3), 5, 0, INCONCLUSIVE),
        ((0.0, 0.0), 5, 0, INCONCLUSIVE),
        ((-0.3, -0.1), 5, 0, NOT_REPRODUCED),
        ((0.1, 0.2), 4, 0, INCONCLUSIVE),
        ((0.1, 0.2), 5, 1, INCONCLUSIVE),
        ((-0.3, -0.1), 5, 1, INCONCLUSIVE),
    ],
)
def test_better_takes_an_interval_on_one_side_enough_seeds_and_draws_that_did_not_fail(
    interval, seeds, failed, expected
):
    assert verdicts.better(*interval, seeds, failed) == expected


def test_advantage_is_a_difference_of_aucs():
    models = made_up(5, 1.0, small=0.005)
    clean, defective = (
        [-v for m in models if (m["kind"] == "clean") is wanted for v in m["committed"]["small_test"]]
        for wanted in (True, False)
    )
    for view in ("committed", "clean", "control"):
        gain, low, high = verdicts.advantage(models, "small_test", view)
        assert gain == pytest.approx(1 - sep.auc(clean, defective)) and 0 < low <= gain <= high < 1
    moved = made_up(5, 1.0, small=0.02, data=5.0)
    assert verdicts.advantage(moved, "test_accuracy", "control")[0] == 0


def test_controls_are_well_trained_models_on_the_data_of_the_defective(context):
    recipe = small_clean().but(corruption="noisy_labels", amount=0.4)
    profile = own_data.PROFILES["tiny"]
    task = defects.Task(recipe, profile.probe, 3, (12,), profile.worst)
    (found,) = defects.assess(task, context)
    bad, well = train_model(recipe, context), train_model(small_clean(), context)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(well.module(bad.x), bad.y).item()
    assert found["control"]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert found["committed"]["train_loss"] == pytest.approx(bad.train_loss, rel=1e-5) != found["control"]["train_loss"]
    again = defects.measures(well.module, defects.views(bad)["committed"], "noisy_labels", 0, task)
    assert found["control"] == again and len(again["directional"]) == 3
    clean, rounded = defects.assess(replace(task, recipe=small_clean()), context)
    assert rounded["control"] == clean["committed"] != rounded["committed"] and "control" not in clean


def test_own_data_end_to_end(context):
    result = perform("own_data", own_data.PROFILES["tiny"], context, "command")
    kept = load(context.out / "own_data.json")
    assert kept.to_dict() == result.to_dict() and (context.out / "own_data.png").stat().st_size > 1000
    assert len(kept.claims) == 2 * 6 and len(kept.tables) == 2 * 9
    matched = kept.values["models"]["until a training loss of 1.8"]
    assert all(not m["reached"] or m["committed"]["train_loss"] <= 1.8 for m in matched if m["kind"] != "quantised")
    models = kept.values["models"]["3 epochs"]
    assert sorted((m["kind"], m["seed"]) for m in models) == sorted(itertools.product(defects.KINDS, range(2)))
    by_kind = {kind: [m["committed"] for m in models if m["kind"] == kind] for kind in defects.KINDS}
    assert by_kind["quantised"][0]["train_loss"] != by_kind["clean"][0]["train_loss"]
    for s in kept.values["separations"]["3 epochs"]:
        if s["view"] in ("committed", "control"):
            control = [m["control"] for m in models if m["kind"] == s["kind"]]
            clean, defective = (
                [s["expected"] * v for m in some for v in np.ravel(m[s["measure"]])]
                for some in (by_kind["clean"] if s["view"] == "committed" else control, by_kind[s["kind"]])
            )
            pairs = [(b > a) + (b == a) / 2 for a in clean for b in defective]
            assert s["auc"] == pytest.approx(np.mean(pairs))
    recipe = small_clean().but(seed=1, data_seed=1)
    trained = train_model(recipe, context)
    assert by_kind["clean"][1]["train_loss"] == trained.train_loss
    assert by_kind["clean"][1]["test_accuracy"] == trained.test_accuracy
