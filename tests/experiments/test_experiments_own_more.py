"""Own data, more: the attack on the score, controls, caches, and tiny runs of every part."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import gpt, own_more
from benchmarks.experiments.common import Context, Recipe, train_model, training_set
from benchmarks.experiments.evasion import evade, log_ratios, penalty
from benchmarks.experiments.own_images import (
    Levels,
    Model,
    control_of,
    grouped,
)
from benchmarks.experiments.own_text import TextModel, TextPart, TextRecipe, texts_of, train_text_model
from benchmarks.experiments.own_text import control_of as text_control_of
from benchmarks.experiments.parts import (
    COMMITTED,
    HELD_OUT,
    Audit,
    observe,
    on_committed,
    scores,
)
from benchmarks.experiments.report import INCONCLUSIVE, MAX_FIGURE_BYTES, VERDICTS, load
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


def test_draws_that_fail_score_infinite():
    module, probe = mlp(16, [6], 4), Probe(steps=3, batch_size=4)
    x, y = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(40, dtype=torch.int64)
    audit = Audit(probe, 2, ("static_sam", "train_loss", "train_accuracy"))
    with torch.no_grad():
        list(module.parameters())[-1].copy_(torch.tensor([1e4, 0, 0, 0]))  # the loss vanishes
    found = observe(module, (x, y), (x, y), audit, 0)
    assert found[COMMITTED] == found[f"{HELD_OUT}/1"] == math.inf and found["train_accuracy"] == 1
    with torch.no_grad():
        next(iter(module.parameters())).fill_(math.nan)  # training diverged
    found = observe(module, (x, y), (x, y), audit, 0)
    assert found["static_sam"] == found["train_loss"] == found[COMMITTED] == math.inf
    assert 0 <= found["train_accuracy"] <= 1
    with pytest.raises(UnusableInput, match="unknown measures sharpness"):
        Audit(probe, 2, ("sharpness",))


def test_controls_are_the_clean_models_of_the_seed_on_the_corrupted_data(tmp_path):
    context, audit = Context(tmp_path), own_more.TINY.noise.audit
    recipe = own_more.TINY.noise.recipe.but(amount=0.4, seed=1, data_seed=1)
    found = control_of(Model(audit, recipe), context)
    clean = train_model(recipe.but(corruption="none", amount=0.0), context)
    raw, labels, before = training_set(recipe, clean.data, context)
    assert (labels != before).sum() == 48 and (clean.labels == before).all()
    wanted = on_committed(clean.module, (clean.data.inputs(raw), torch.from_numpy(labels)), audit, 1)
    assert found == wanted != on_committed(clean.module, (clean.x, clean.y), audit, 1)
    assert set(wanted) == {COMMITTED, f"{COMMITTED}/0", f"{COMMITTED}/1", "static_asam", "train_loss"}
    assert len(list((tmp_path / "cache").iterdir())) == 1

    part = own_more.TINY.gpt
    recipe = replace(part.recipe, artefact="noise", amount=0.1, seed=1)
    found = text_control_of(TextModel(part.audit, recipe), context)
    texts, _ = texts_of(replace(part.recipe, seed=1), gpt.corpus())
    module, _ = train_text_model(replace(part.recipe, seed=1), texts, context)
    noised = gpt.split_labels(gpt.noisy(texts, 0.1, 1))
    assert found == on_committed(module, noised, part.audit, 1)
    assert found != on_committed(module, gpt.split_labels(texts), part.audit, 1)


def test_levels_group_by_amount_and_begin_with_clean_models():
    levels = Levels(Recipe(corruption="badnets"), (0.0, 0.5), own_more.TINY.noise.audit)
    recipes = [model.recipe for model in levels.models(2)]
    assert [(r.amount, r.seed, r.data_seed) for r in recipes] == [(0, 0, 0), (0, 1, 1), (0.5, 0, 0), (0.5, 1, 1)]
    assert [r.corruption for r in recipes] == ["none", "none", "badnets", "badnets"]
    assert str(levels.models(2)[3]) == "cnn, badnets 0.5, seed 1"
    assert grouped(levels, [{"a": i} for i in range(4)]) == {0: [{"a": 0}, {"a": 1}], 0.5: [{"a": 2}, {"a": 3}]}
    with pytest.raises(UnusableInput, match="begin with 0"):
        Levels(Recipe(), (0.1, 0.5), own_more.TINY.noise.audit)
    with pytest.raises(UnusableInput, match="begin with"):
        TextPart(own_more.TINY.gpt.recipe, (("noise", 0.1),), own_more.TINY.noise.audit)


def test_language_models_are_cached_by_recipe_and_text(tmp_path):
    recipe = own_more.TINY.gpt.recipe
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
    first, seconds = train_text_model(recipe, train, context)
    second, again = train_text_model(recipe, train, context)
    assert seconds == again and all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(b"damaged")
    third, _ = train_text_model(recipe, train, context)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))
    keys = {recipe.key(train, "cpu"), recipe.key(test, "cpu"), recipe.key(train, "cuda")}
    assert len({*keys, replace(recipe, seed=1).key(train, "cpu")}) == 4
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
    return command.main(["own_more", "--profile", "tiny", "--jobs", "1", "--out", str(tmp_path), *arguments])


def test_every_part_runs_end_to_end(tmp_path, capsys):
    from scipy.stats import spearmanr

    assert run(tmp_path) == 0
    result = load(tmp_path / "own_more.json")
    assert set(result.values) == set(own_more.PARTS) and result.seeds == 2
    assert len(result.claims) == 1 + 1 + 1 + 3 + 2
    # two models of a kind cannot decide anything
    assert {claim.verdict for claim in result.claims} == {INCONCLUSIVE} <= set(VERDICTS)
    assert "verdict" in capsys.readouterr().out
    assert 0 < (tmp_path / "own_more.png").stat().st_size < MAX_FIGURE_BYTES
    document = json.loads((tmp_path / "own_more.json").read_text())
    clean = document["values"]["gpt"]["models"]["clean"]
    assert len(clean) == 2 and clean[0][COMMITTED] != clean[1][COMMITTED]
    assert gpt.digest(gpt.corpus()) in result.data
    trends = {row[0]: row[1] for table in result.tables if "2 epochs: Spearman" in table.title for row in table.rows}
    by_level = result.values["noise"]["models"]
    ranks = spearmanr(
        [i for i, kind in enumerate(by_level) for _ in range(2)],
        [-model["test_accuracy"] for kind in by_level.values() for model in kind],
    )
    assert trends["test accuracy"] == pytest.approx(ranks.statistic)
    for name in own_more.PARTS:  # every kind is another model, of every seed
        figure = document["values"][name]["figure"]
        assert len({score for kind in figure.values() for score in kind}) == 2 * len(figure)
        controls = document["values"][name]["controls"]
        defective = [kind for kind in list(figure)[1:] if not kind.startswith("honest")]
        assert list(controls) == defective and all(len(some) == 2 for some in controls.values())
        clean_scores = figure[next(iter(figure))]
        for some in controls.values():  # measured on other data
            assert all(a[COMMITTED] != b for a, b in zip(some, clean_scores, strict=True))

    for path in (tmp_path / "own_more").glob("noise*"):
        path.unlink()
    assert run(tmp_path, "--parts", "noise") == 0  # from the cache, the same numbers; the others are kept
    again = load(tmp_path / "own_more.json")
    assert again.values == result.values and again.claims == result.claims and again.tables == result.tables


def test_parts_are_kept_wherever_a_run_ends(tmp_path, monkeypatch):
    assert run(tmp_path, "--parts", "noise") == 0
    assert list(load(tmp_path / "own_more.json").values) == ["noise"]
    before = load(tmp_path / "own_more.json")

    def breaks(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(own_more.PARTS, "poisoning", ("Poisoning", breaks))
    assert run(tmp_path, "--parts", "gpt,poisoning") == 130  # in the order of the table: gpt is not reached
    monkeypatch.setitem(own_more.PARTS, "gpt", ("Language model", breaks))
    monkeypatch.setitem(own_more.PARTS, "poisoning", ("Poisoning", own_more.poisoning))
    assert run(tmp_path, "--parts", "gpt,poisoning") == 130
    assert load(tmp_path / "own_more.json") == before
    monkeypatch.setitem(own_more.PARTS, "poisoning", ("Poisoning", breaks))
    assert run(tmp_path, "--parts", "noise") == 0  # with what the run before has saved
    result = load(tmp_path / "own_more.json")
    assert list(result.values) == ["noise", "poisoning"] and result.values["noise"] == before.values["noise"]
    assert sum(": run " in note for note in result.notes) == 2
    other = replace(own_more.TINY, noise=replace(own_more.TINY.noise, amounts=(0.0, 0.3)))
    assert own_more.kept("noise", other, Context(tmp_path)) is None  # of another configuration
    assert own_more.kept("noise", replace(own_more.TINY, seeds=3), Context(tmp_path)) is None
    assert own_more.kept("noise", own_more.TINY, Context(tmp_path)).values["size"] == repr(own_more.TINY.noise)


def test_unknown_parts_are_refused(tmp_path, capsys):
    assert run(tmp_path, "--parts", "noise,nonsense") == 2
    assert "not nonsense" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.*")) and not list(tmp_path.glob("own_more"))
