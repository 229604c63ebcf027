"""The small language model of Table 7, its text, and the defects of that text."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.experiments import gpt
from zkcert.errors import UnusableInput
from zkcert.gpt import Attention
from zkcert.metric import Network, Probe, trajectory

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
        layer = Attention(12, 3).double().requires_grad_(False)
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
