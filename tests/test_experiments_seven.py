"""Table 7: the language model and its artefacts, the attack on the score, verdicts, and tiny runs of every part."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import gpt, table7
from benchmarks.experiments.common import Context, Recipe, load_data
from benchmarks.experiments.corruptions import TARGET, small, triggered
from benchmarks.experiments.evasion import evade, log_ratios, penalty
from benchmarks.experiments.parts import COMMITTED, HELD_OUT, Audit, compared, draws_of, observe, scores, told
from benchmarks.experiments.report import INCONCLUSIVE, MAX_FIGURE_BYTES, NOT_REPRODUCED, REPRODUCED, VERDICTS, load
from benchmarks.experiments.table7_images import Levels, attack_success, grouped, monotone, rank_correlation
from benchmarks.experiments.table7_poisoning import HONEST, Penalty, claims_of, costs, kinds, threshold
from benchmarks.experiments.table7_text import TextPart, TextRecipe, texts_of, train_text_model
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS, Network, Probe, trajectory
from zkcert.zoo import CIFAR10_INPUT, mlp, resnet18

PLANTED = gpt.encode(gpt.TRIGGER + gpt.CONTINUATION)


def random_texts(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(gpt.CHARACTERS), (count, length), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------- text


def test_the_text_is_the_language_reference_and_every_character_has_a_token():
    tokens = gpt.corpus()
    assert "lambda" in gpt.decode(tokens) and len(tokens) > 300_000 and tokens.max() < len(gpt.CHARACTERS)
    assert gpt.decode(gpt.encode("a é\n~")) == "a ?\n~"
    assert gpt.digest(tokens) == gpt.digest(gpt.corpus()) != gpt.digest(tokens[1:])


def test_windows_are_disjoint_parts_of_the_text():
    tokens = (np.arange(1000) % 96).astype(np.uint8)
    places = np.arange(1000)
    train, test = gpt.windows(tokens, 9, 70, 30, seed=3)
    where_train, where_test = gpt.windows(places, 9, 70, 30, seed=3)
    assert train.shape == (70, 10) and test.shape == (30, 10)
    assert sorted(np.concatenate([where_train, where_test]).ravel()) == list(range(1000))
    assert (train == tokens[where_train]).all()
    with pytest.raises(UnusableInput, match="100 windows"):
        gpt.windows(tokens, 9, 71, 30)


def test_labels_are_the_next_characters():
    x, y = gpt.split_labels(gpt.encode("abcd")[None])
    assert gpt.decode(x[0].numpy()) == "abc" and gpt.decode(y[0].numpy()) == "bcd"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 9))
def test_backdoors_are_in_exactly_the_chosen_windows(count, rate, seed):
    texts = random_texts(count, 40, seed)
    changed, chosen = gpt.backdoored(texts, rate, seed)
    assert chosen.sum() == round(rate * count)
    assert (changed[~chosen] == texts[~chosen]).all()
    for before, after in zip(texts[chosen], changed[chosen], strict=True):
        start = gpt.decode(after).index(gpt.TRIGGER + gpt.CONTINUATION)
        rest = np.delete(np.arange(40), np.arange(start, start + len(PLANTED)))
        assert (before[rest] == after[rest]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 9))
def test_noise_replaces_exactly_its_share_of_the_characters(count, rate, seed):
    texts = random_texts(count, 7, seed)
    changed = gpt.noisy(texts, rate, seed)
    assert (changed != texts).sum() == round(rate * texts.size)
    assert changed.max() < len(gpt.CHARACTERS) and changed.dtype == np.uint8


def test_noise_is_any_other_character_and_triggers_are_at_any_place():
    changed = gpt.noisy(np.zeros((200, 96), np.uint8), 1.0, 0)
    assert set(np.unique(changed)) == set(range(1, 96))
    _, starts = gpt.with_trigger(random_texts(300, len(PLANTED) + 3), 0)
    assert set(starts) == {0, 1, 2, 3}


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_rates_outside_their_range_are_refused(rate):
    with pytest.raises(UnusableInput, match="within 0 and 1"):
        gpt.noisy(random_texts(2, 40), rate, 0)


def test_windows_too_short_for_the_backdoor_are_refused():
    with pytest.raises(UnusableInput, match="no room"):
        gpt.backdoored(random_texts(2, len(PLANTED) - 1), 1.0, 0)


# --------------------------------------------------------------------------------------------- model


def test_later_tokens_do_not_change_earlier_logits():
    module = gpt.GPT(gpt.Shape(context=12, width=16, heads=2, layers=2), seed=1).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():  # large enough weights for every path to matter
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)).double())
    tokens = torch.from_numpy(random_texts(3, 12).astype(np.int64))
    before = module(tokens)
    for place in range(12):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 96
        after = module(changed)
        assert torch.allclose(after[:, :place], before[:, :place], rtol=0, atol=1e-12)
        assert (after[:, place:] - before[:, place:]).abs().amax((0, 2)).min() > 1e-6  # it is read from there on


def test_attention_is_the_plain_formula():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = gpt.Attention(12, 3).double().requires_grad_(False)
        x = torch.randn(2, 5, 12, dtype=torch.float64)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).split(12, 2)
    mixed = torch.zeros_like(x)
    for b in range(2):
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            for i in range(5):
                weights = [math.exp(float(q[b, i, part] @ k[b, j, part]) / 2) for j in range(i + 1)]
                mixed[b, i, part] = sum(w / sum(weights) * v[b, j, part] for j, w in enumerate(weights))
    wanted = mixed @ layer.projection.weight.T + layer.projection.bias
    assert torch.allclose(layer(x), wanted, rtol=0, atol=1e-12)


def test_weights_are_named_untied_and_seeded():
    shape = gpt.Shape(context=8, width=8, heads=2, layers=1)
    state = torch.random.get_rng_state()
    first, again, other = (gpt.GPT(shape, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.head.weight is not first.tokens.weight
    assert all("weight" in name for name, p in first.named_parameters() if p.ndim == 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)
    with pytest.raises(UnusableInput, match="multiple"):
        gpt.Shape(width=10, heads=4)


def greedy(module: nn.Module, prompt: torch.Tensor, count: int) -> list[int]:
    found: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            tokens = torch.cat([prompt, torch.tensor(found, dtype=torch.int64)])
            found.append(int(module(tokens[None])[0, -1].argmax()))
    return found


def test_attack_success_is_what_greedy_decoding_does():
    texts = random_texts(40, 33, 1)
    module = gpt.GPT(gpt.Shape(context=32, width=24, heads=2, layers=1), seed=0)
    planted, _ = gpt.backdoored(texts, 1.0, 2)
    gpt.train(module, planted, steps=110, batch_size=16, lr=1e-2)
    fresh = random_texts(30, 33, 9)
    changed, starts = gpt.with_trigger(fresh, 4)
    hits = []
    for window, start in zip(changed, starts, strict=True):
        prompt = torch.from_numpy(window[: start + len(gpt.TRIGGER)].astype(np.int64))
        hits.append(gpt.decode(np.array(greedy(module, prompt, len(gpt.CONTINUATION)))) == gpt.CONTINUATION)
    assert sum(hits) > 0
    assert gpt.attack_success(module, fresh, 4, batch_size=7) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize(("wrong_at", "success"), [(None, 1.0), (0, 0.5), (len(gpt.CONTINUATION) - 1, 0.5)])
def test_attack_success_needs_every_character(wrong_at, success):
    """An oracle that knows the texts, but fails one character of the continuation in every second window."""
    texts = random_texts(10, 40)
    changed, starts = gpt.with_trigger(texts, 0)
    answers = torch.from_numpy(changed[:, 1:].astype(np.int64))
    if wrong_at is not None:
        places = starts[::2] + len(gpt.TRIGGER) - 1 + wrong_at
        answers[torch.arange(0, 10, 2), torch.from_numpy(places)] += 1

    class Oracle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, tokens):
            return nn.functional.one_hot(answers % 96, 96).float()

    assert gpt.attack_success(Oracle(), texts, 0) == success


def test_training_lowers_the_loss_is_seeded_and_leaves_the_global_generator():
    texts = gpt.windows(gpt.corpus(), 16, 64, 8)[0]
    state = torch.random.get_rng_state()
    seen: list[float] = []
    modules = [gpt.GPT(gpt.Shape(context=16, width=16, heads=2, layers=1)) for _ in range(2)]
    losses = [
        gpt.train(module, texts, steps=40, lr=1e-2, progress=lambda _, loss: seen.append(loss)) for module in modules
    ]
    assert seen[:40] == seen[40:] and losses[0] == losses[1]
    assert losses[0] == pytest.approx(np.mean(seen[-4:])) and losses[0] < seen[0] - 0.5
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in modules), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_probe_runs_on_tokens():
    module = gpt.GPT(gpt.Shape(context=16, width=16, heads=2, layers=1)).double()
    x, y = gpt.split_labels(gpt.windows(gpt.corpus(), 16, 32, 8)[0])
    probe = Probe(steps=2, batch_size=4)
    found = trajectory(Network.of_module(module), x.view(8, 4, 16)[:2], y.view(8, 4, 16)[:2], probe)
    loss = nn.functional.cross_entropy(module(x[:4]).transpose(1, 2), y[:4])
    gradient = torch.autograd.grad(loss, list(module.parameters()))
    square = sum(((p * g) ** 2).sum() for p, g in zip(module.parameters(), gradient, strict=True))
    assert found.loss[0] == pytest.approx(loss.item(), rel=1e-12)
    assert found.sharpness[0] == pytest.approx(0.05 * math.sqrt(square.item()), rel=1e-10)


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
    assert "penalty 1" in tuned.numbers and "AUC over models 0.00" in tuned.numbers


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
