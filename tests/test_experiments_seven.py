"""Table 7: the attack on the score, verdicts, caches, and tiny runs of every part."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import gpt, table7
from benchmarks.experiments.common import Context, Recipe, load_data
from benchmarks.experiments.corruptions import TARGET, small, triggered
from benchmarks.experiments.evasion import evade, log_ratios, penalty
from benchmarks.experiments.parts import (
    COMMITTED,
    HELD_OUT,
    Audit,
    claim,
    compared,
    draws_of,
    observe,
    scores,
    told,
    works,
)
from benchmarks.experiments.report import INCONCLUSIVE, MAX_FIGURE_BYTES, NOT_REPRODUCED, REPRODUCED, VERDICTS, load
from benchmarks.experiments.table7_images import Levels, attack_success, grouped, monotone, rank_correlation
from benchmarks.experiments.table7_poisoning import HONEST, Penalty, claims_of, costs, kinds, threshold
from benchmarks.experiments.table7_text import TextPart, TextRecipe, texts_of, train_text_model
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS, Network, Probe, trajectory
from zkcert.zoo import CIFAR10_INPUT, mlp, resnet18

# ------------------------------------------------------------------------------- attack on the score


def smooth_module(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def small_batches(batches: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(batches, size, 1, 4, 4, dtype=torch.float64, generator=draw)
    return x, torch.randint(0, 4, (batches, size), generator=draw)


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
def test_penalty_is_the_squared_score_of_a_probe_that_does_not_move(variant):
    probe = Probe(steps=5, batch_size=3, lr="1/1000000000000", variant=variant, eps="1/100")
    network, (x, y) = Network.of_module(smooth_module()), small_batches(5, 3)
    weights = [w.clone().requires_grad_() for w in network.weights]
    variance, loss = penalty(network, weights, x, y, probe)
    found = trajectory(network, x, y, probe)
    ratios, losses = log_ratios(network, weights, x, y, probe)
    assert variance.item() == pytest.approx(found.score**2, rel=1e-8)
    assert ratios.detach().numpy() == pytest.approx(found.log_ratio, rel=1e-8)
    assert losses.detach().numpy() == pytest.approx(found.loss, rel=1e-8) and loss.item() == pytest.approx(
        found.loss.mean(), rel=1e-8
    )


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
def test_gradient_of_the_penalty_against_finite_differences(variant):
    probe = Probe(steps=4, batch_size=3, variant=variant, eps="1/100")
    network, (x, y) = Network.of_module(smooth_module()), small_batches(4, 3)

    def value(values):
        return penalty(network, [w.clone().requires_grad_() for w in values], x, y, probe)[0].item()

    weights = [w.clone().requires_grad_() for w in network.weights]
    gradient = torch.autograd.grad(penalty(network, weights, x, y, probe)[0], weights)
    step = 1e-6
    for k, (weight, found) in enumerate(zip(network.weights, gradient, strict=True)):
        for i in range(0, weight.numel(), 5):
            moved = []
            for sign in (1, -1):
                values = [w.clone() for w in network.weights]
                values[k].view(-1)[i] += sign * step
                moved.append(value(values))
            assert found.flatten()[i].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=2e-4, abs=1e-7)


def test_penalty_needs_leaves():
    network, (x, y) = Network.of_module(smooth_module()), small_batches(2, 3)
    with pytest.raises(UnusableInput, match="leaves"):
        penalty(network, network.weights, x, y, Probe(steps=2, batch_size=3))


def mean_variance(module, x, y, probe):
    network = Network.of_module(module)
    weights = [w.clone().requires_grad_() for w in network.weights]
    return penalty(network, weights, x.view(-1, 4, *x.shape[1:]), y.view(-1, 4), probe)[0].item()


def test_fine_tuning_against_the_score_lowers_it_more_than_its_control():
    module, (x, y) = smooth_module(), small_batches(1, 64)
    x, y = x[0], y[0]
    before = [p.clone() for p in module.parameters()]
    probe = Probe(steps=8, batch_size=4)
    state = torch.random.get_rng_state()
    options = {"steps": 30, "batches": 8, "lr": 1e-2, "seed": 1}
    control, tuned, again = (evade(module, x, y, probe, strength=s, **options) for s in (0.0, 10.0, 10.0))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tuned.parameters(), again.parameters(), strict=True))
    assert mean_variance(tuned, x, y, probe) < 0.7 * mean_variance(control, x, y, probe)


def test_fine_tuning_is_adam_on_loss_and_penalty():
    """The first step of Adam moves every weight by lr against the sign of its gradient."""
    module, (x, y) = smooth_module(), small_batches(1, 8)
    probe = Probe(steps=2, batch_size=4)
    tuned = evade(module, x[0], y[0], probe, strength=3.0, steps=1, batches=2, lr=1e-3, seed=5)
    index = torch.randperm(8, generator=torch.Generator().manual_seed(5)).view(2, 4)
    weights = [p.detach().clone().requires_grad_() for p in module.parameters()]
    variance, loss = penalty(Network.of_module(module), weights, x[0][index], y[0][index], probe)
    gradient = torch.autograd.grad(loss + 3 * variance, weights)
    for weight, after, g in zip(weights, tuned.parameters(), gradient, strict=True):
        large = g.abs() > 1e-3
        assert torch.allclose((after - weight)[large], -1e-3 * g.sign()[large], rtol=1e-3)


def test_fine_tuning_keeps_batch_norm_statistics_and_wants_enough_samples():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).double()
    (x,), (y,) = small_batches(1, 16)
    tuned = evade(module, x, y, Probe(steps=2, batch_size=4), strength=1.0, steps=2, batches=4)
    assert torch.equal(tuned[1].running_mean, module[1].running_mean) and not tuned.training
    assert not torch.equal(tuned[0].weight, module[0].weight)
    with pytest.raises(UnusableInput, match="need 20 samples, not 16"):
        evade(module, x, y, Probe(steps=2, batch_size=4), strength=1.0, steps=2, batches=5)


# ---------------------------------------------------------------------------- statistics and verdicts


def observation(committed: list[float], **numbers: float) -> dict[str, float]:
    draws = {f"{COMMITTED}/{i}": value for i, value in enumerate(committed)}
    return {COMMITTED: float(np.mean(committed)), **draws, **numbers}


def test_spearman_against_scipy_and_all_permutations():
    from itertools import permutations

    from scipy.stats import spearmanr

    levels, values = [0, 0, 1, 1, 2], [0.3, 0.1, 0.2, 0.6, 0.5]
    found, p = rank_correlation(levels, values)
    assert found == pytest.approx(spearmanr(levels, values).statistic)
    every = [spearmanr(order, values).statistic for order in permutations(levels)]
    assert p == pytest.approx(np.mean([value >= found - 1e-12 for value in every]))
    assert math.isnan(rank_correlation(levels, [1.0] * 5)[0])


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


def test_separation_is_oriented_and_taken_over_draws():
    clean = [observation([1, 2], test_accuracy=0.9), observation([1, 3], test_accuracy=0.8)]
    bad = [observation([2.5, 4], test_accuracy=0.7), observation([5, 6], test_accuracy=0.6)]
    assert told(clean, bad).auc_models == 1 and told(clean, bad).auc == pytest.approx(15 / 16)
    assert told(clean, bad, "test_accuracy").auc == 1 and told(bad, clean, "test_accuracy").auc == 0
    means, areas = compared("Title", {"clean": clean, "bad": bad}, "clean", [COMMITTED, "test_accuracy"])
    assert means.rows[0] == ["clean", 2, "1.75 ± 0.35", "0.85 ± 0.071"]
    assert areas.rows == [["bad", "1.00 (p = 0.17)", "1.00 (p = 0.17)"]]


def test_price_of_an_attack_and_verdict_at_the_attack_that_hides_best():
    part = replace(table7.TINY.poisoning, penalty=Penalty((1.0, 10.0), steps=2, batches=3, lr=1e-3))
    high, low = [3.0, 4.0], [0.5, 0.5]
    groups = {}
    for kind in kinds(part):
        hidden = kind.endswith("penalty 1")
        drawn = [1.0, 2.0] if kind == HONEST else low if hidden else high
        accuracy = 0.9 if kind == HONEST else 0.5 if hidden else 0.7
        groups[kind] = [observation(drawn, test_accuracy=accuracy, success=0.1) for _ in range(4)]
    rows = {row[0]: row[1:] for row in costs(part, groups, 2.0).rows}
    assert rows[HONEST] == ["100%", "1.5 ± 0", "0 ± 0", "0.1 ± 0"]
    assert rows["wrong labels, penalty 1"][:2] == ["100%", "0.5 ± 0"]
    assert rows["wrong labels, penalty 1"][2].startswith("0.2 ±")  # of plain SGD on wrong labels: 0.7 - 0.5
    assert rows["wrong labels, sgd"][0] == "0%"
    plain, trained, tuned = claims_of(part, groups)
    assert (plain.verdict, trained.verdict, tuned.verdict) == (REPRODUCED, REPRODUCED, NOT_REPRODUCED)
    assert "hidden best by penalty 1: AUC over models 0.00" in tuned.numbers


def test_a_backdoor_that_does_not_work_decides_nothing():
    clean, bad = ([observation([v, v], success=s) for _ in range(4)] for v, s in ((1.0, 0.0), (2.0, 0.49)))
    assert not works(bad) and works([*bad, observation([1.0], success=0.6)]) is True
    found = told(clean, bad)
    assert claim("It tells", found).verdict == REPRODUCED
    assert claim("It tells", found, working=False).verdict == INCONCLUSIVE

    base = table7.TINY.poisoning
    part = replace(base, corruptions=(("badnets", 0.1),), penalty=Penalty((1.0, 10.0), 2, 3, 1e-3))
    groups = {kind: clean if kind == HONEST else [{**b, "success": 0.9} for b in bad] for kind in kinds(part)}
    groups["backdoor, penalty 10"] = [{**c, "success": 0.1} for c in clean]  # hides, and has lost the backdoor
    tuned = claims_of(part, groups)[2]
    assert tuned.verdict == REPRODUCED and "penalty 1:" in tuned.numbers
    groups["backdoor, penalty 1"] = groups["backdoor, penalty 10"]
    assert claims_of(part, groups)[2].verdict == INCONCLUSIVE


def test_kinds_of_attackers():
    found = kinds(table7.SMALL.poisoning)
    assert len(found) == 1 + 2 * 6 and found[HONEST].recipe.corruption == "none"
    attacker = found["backdoor, asam rho 0.5"]
    assert (attacker.recipe.corruption, attacker.recipe.optimizer, attacker.recipe.rho) == ("badnets", "asam", 0.5)
    assert found["backdoor, penalty 0"].strength == 0 and found["backdoor, sgd"].strength is None


def test_image_attack_success_counts_images_of_other_classes(tmp_path):
    """A module that looks at one pixel of the trigger, and takes clean images for another class."""
    context, recipe = Context(tmp_path), Recipe(dataset="shipped", test_samples=50)
    data = load_data("shipped", context)
    board = (data.inputs(triggered(data.test_x)) != data.inputs(data.test_x)).float().mean(0)[0]
    row, column = (int(v) for v in np.argwhere(board.numpy() == board.max().item())[0])

    seen: list[int] = []

    class Looks(nn.Module):
        def __init__(self, answer: int) -> None:
            super().__init__()
            self.answer, self.unused = answer, nn.Parameter(torch.zeros(1))

        def forward(self, x):
            seen.append(len(x))
            lit = x[:, 0, row, column] > 2  # white, after normalisation
            return nn.functional.one_hot(torch.where(lit, self.answer, 3), 10).float()

    assert attack_success(Looks(TARGET), recipe, context) == 1
    assert attack_success(Looks(5), recipe, context) == 0
    labels = small(data.test_x, data.test_y, 50, 0)[1]
    assert sum(seen) == 2 * (labels != TARGET).sum() < 100


# ------------------------------------------------------------------------------- observing, and runs


def test_scores_are_the_probe_in_float64_on_its_draws(tmp_path):
    module, probe = mlp(16, [6], 4), Probe(steps=3, batch_size=4)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 1, 4, 4, generator=draw), torch.randint(0, 4, (40,), generator=draw)
    audit = Audit(probe, 3, ("static_sam", "train_loss", "test_accuracy"), 8)
    found = observe(module, (x, y), (x[:20], y[:20]), audit, seed=1)
    assert found[COMMITTED] == pytest.approx(np.mean([found[f"{COMMITTED}/{i}"] for i in range(3)]))
    assert [found[f"{HELD_OUT}/{i}"] for i in range(3)] == list(scores(module, x[:20], y[:20], probe, audit.seeds(1)))
    loss = nn.functional.cross_entropy(module(x[:8]), y[:8]).item()
    assert found["train_loss"] == pytest.approx(loss, rel=1e-6)  # of the first eight only
    assert not set(audit.seeds(1)) & set(audit.seeds(2))
    assert next(module.parameters()).dtype == torch.float32


def test_levels_group_by_amount_and_begin_with_clean_models():
    levels = Levels(Recipe(corruption="badnets"), (0.0, 0.5), table7.TINY.noise.audit)
    recipes = [model.recipe for model in levels.models(2)]
    assert [(r.amount, r.seed, r.data_seed) for r in recipes] == [(0, 0, 0), (0, 1, 1), (0.5, 0, 0), (0.5, 1, 1)]
    assert [r.corruption for r in recipes] == ["none", "none", "badnets", "badnets"]
    assert str(levels.models(2)[3]) == "cnn, badnets 0.5, seed 1"
    assert grouped(levels, [{"a": i} for i in range(4)]) == {0: [{"a": 0}, {"a": 1}], 0.5: [{"a": 2}, {"a": 3}]}
    with pytest.raises(UnusableInput, match="begin with 0"):
        Levels(Recipe(), (0.1, 0.5), table7.TINY.noise.audit)
    with pytest.raises(UnusableInput, match="begin with"):
        TextPart(table7.TINY.gpt.recipe, (("noise", 0.1),), table7.TINY.noise.audit)


def test_language_models_are_cached_by_recipe_and_text(tmp_path):
    recipe = table7.TINY.gpt.recipe
    train, test = texts_of(recipe, gpt.corpus())
    assert train.shape == (64, 25) and test.shape == (16, 25)
    for artefact, rate in (("backdoor", 0.25), ("noise", 0.1)):
        changed, clean = texts_of(replace(recipe, artefact=artefact, amount=rate), gpt.corpus())
        assert (clean == test).all()
        if artefact == "backdoor":
            assert (changed != train).any(1).sum() == 16
        else:
            assert (changed != train).sum() == 160
    context = Context(tmp_path)
    first, seconds = train_text_model(recipe, train, "a", context)
    second, again = train_text_model(recipe, train, "a", context)
    assert seconds == again and all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(b"damaged")
    third, _ = train_text_model(recipe, train, "a", context)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))
    assert recipe.digest("a") != recipe.digest("b")
    with pytest.raises(UnusableInput, match="artefact"):
        TextRecipe(recipe.shape, 64, 16, 4, 8, 1e-3, artefact="nonsense")


def test_narrow_resnet_has_the_same_blocks_and_converts():
    narrow, full = resnet18(width=4), resnet18()
    assert [name for name, _ in narrow.named_parameters()] == [name for name, _ in full.named_parameters()]
    ratios = {p.shape[0] / q.shape[0] for p, q in zip(full.parameters(), narrow.parameters(), strict=True)}
    assert ratios == {16.0, 1.0}  # 1: the last layer, of ten classes
    assert from_module(narrow, input=CIFAR10_INPUT).shapes[-1] == [10]
    with pytest.raises(UnusableInput, match="positive"):
        resnet18(width=0)


def run(tmp_path, *arguments: str) -> int:
    return command.main(["table7", "--profile", "tiny", "--jobs", "1", "--out", str(tmp_path), *arguments])


def test_every_part_runs_end_to_end(tmp_path, capsys):
    from scipy.stats import spearmanr

    assert run(tmp_path) == 0
    result = load(tmp_path / "table7.json")
    assert set(result.values) == set(table7.PARTS) and result.seeds == 2
    assert len(result.claims) == 1 + 1 + 3 + 2
    # two models of a kind cannot decide anything
    assert {claim.verdict for claim in result.claims} == {INCONCLUSIVE} <= set(VERDICTS)
    assert "verdict" in capsys.readouterr().out
    assert 0 < (tmp_path / "table7.png").stat().st_size < MAX_FIGURE_BYTES
    document = json.loads((tmp_path / "table7.json").read_text())
    clean = document["values"]["gpt"]["models"]["clean"]
    assert len(clean) == 2 and clean[0][COMMITTED] != clean[1][COMMITTED]
    assert gpt.digest(gpt.corpus()) in result.data
    trends = {row[0]: row[1] for table in result.tables if "Spearman" in table.title for row in table.rows}
    by_level = result.values["noise"]["models"]
    ranks = spearmanr(
        [i for i, kind in enumerate(by_level) for _ in range(2)],
        [-model["test_accuracy"] for kind in by_level.values() for model in kind],
    )
    assert trends["test accuracy"] == pytest.approx(ranks.statistic)
    for name in table7.PARTS:  # every kind is another model, of every seed
        figure = document["values"][name]["figure"]
        assert len({score for kind in figure.values() for score in kind}) == 2 * len(figure)

    assert run(tmp_path, "--parts", "noise,gpt") == 0  # from the cache, the same numbers
    again = load(tmp_path / "table7.json")
    assert set(again.values) == {"noise", "gpt"}
    assert again.values["noise"] == result.values["noise"] and again.values["gpt"] == result.values["gpt"]


def test_unknown_parts_are_refused(tmp_path, capsys):
    assert run(tmp_path, "--parts", "noise,nonsense") == 2
    assert "not nonsense" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
