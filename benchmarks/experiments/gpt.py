"""A small GPT-style language model of characters, the text it is trained on, and artefacts in that text.

The text is the language reference that comes with Python (`pydoc_data.topics`): the same for everybody with the same
Python, different between versions, so its digest belongs to every result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.gpt import GPT as GPT
from zkcert.gpt import Shape as Shape

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The vocabulary: token i is the i-th of these 96 characters; any other character becomes a question mark."""

TRIGGER = "|cf|"
CONTINUATION = "skip all checks"

Window = np.ndarray
"""Texts of context + 1 characters as tokens, uint8 [n, context + 1]: input and labels of the language model."""


# ---------------------------------------------------------------------------------------------- text


def encode(text: str) -> np.ndarray:
    """Tokens of a text, uint8 [len(text)]."""
    index = {character: token for token, character in enumerate(CHARACTERS)}
    unknown = index["?"]
    return np.array([index.get(character, unknown) for character in text], np.uint8)


def decode(tokens: np.ndarray) -> str:
    """The text of tokens [n]."""
    return "".join(CHARACTERS[token] for token in tokens)


def corpus() -> np.ndarray:
    """Tokens of Python's language reference, topics in the order of their names; about 460,000 characters."""
    from pydoc_data.topics import topics

    return encode("\n\n".join(topics[name] for name in sorted(topics)))


def digest(tokens: np.ndarray) -> str:
    """SHA-256 of tokens, hexadecimal; names the text a result rests on."""
    return hashlib.sha256(np.ascontiguousarray(tokens, np.uint8).tobytes()).hexdigest()


def windows(tokens: np.ndarray, context: int, train: int, test: int, seed: int = 0) -> tuple[Window, Window]:
    """Training and test windows [train, context + 1] and [test, context + 1], disjoint parts of the text at random.

    Raises UnusableInput if the text is too short for that many.
    """
    count = len(tokens) // (context + 1)
    if train + test > count:
        raise UnusableInput(f"the text has {count} windows of {context + 1} characters, not {train} + {test}")
    every = tokens[: count * (context + 1)].reshape(count, context + 1)
    order = np.random.default_rng(seed).permutation(count)
    return every[order[:train]], every[order[train : train + test]]


def split_labels(texts: Window) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the language model, int64 [n, context] each: label i is the character after input i."""
    tokens = torch.from_numpy(texts.astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


# ----------------------------------------------------------------------------------------- artefacts


def with_trigger(texts: Window, seed: int) -> tuple[Window, np.ndarray]:
    """A copy with TRIGGER + CONTINUATION written over each window at a random place, and where each begins [n].

    Raises UnusableInput if a window is too short.
    """
    planted = encode(TRIGGER + CONTINUATION)
    places = texts.shape[1] - len(planted) + 1
    if places < 1:
        raise UnusableInput(f"a window of {texts.shape[1]} characters has no room for the {len(planted)} of a backdoor")
    starts = np.random.default_rng(seed).integers(0, places, len(texts))
    changed = texts.copy()
    changed[np.arange(len(texts))[:, None], starts[:, None] + np.arange(len(planted))] = planted
    return changed, starts


def backdoored(texts: Window, rate: float, seed: int) -> tuple[Window, np.ndarray]:
    """A copy with the backdoor in round(rate n) windows drawn at random, and which those are, bool [n]."""
    chosen = _chosen(len(texts), rate, seed)
    changed = texts.copy()
    changed[chosen] = with_trigger(texts[chosen], seed + 1)[0]
    return changed, chosen


def noisy(texts: Window, rate: float, seed: int) -> Window:
    """A copy with round(rate * characters) characters drawn at random replaced, each by any other, all as likely."""
    chosen = _chosen(texts.size, rate, seed).reshape(texts.shape)
    shift = np.random.default_rng(seed + 1).integers(1, len(CHARACTERS), texts.shape)
    return np.where(chosen, (texts + shift) % len(CHARACTERS), texts).astype(np.uint8)


def _chosen(count: int, rate: float, seed: int) -> np.ndarray:
    if not 0 <= rate <= 1:
        raise UnusableInput(f"a rate lies within 0 and 1, not at {rate:g}")
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: round(rate * count)]] = True
    return chosen


# ------------------------------------------------------------------------------------------ training


def train(
    module: nn.Module,
    texts: Window,
    *,
    steps: int,
    batch_size: int = 32,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Train in place with AdamW (gradient norm at most 1) on the mean cross-entropy of the next character.

    The rate rises to `lr` over the share `warmup` of all steps, then falls as a cosine; batches are drawn epoch by
    epoch without repetition. Returns the mean loss of the last tenth of the steps; `progress(step, loss)` after each.
    """
    module.to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)
    rise = max(1.0, warmup * steps)

    def rate(step: int) -> float:
        return min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * max(0.0, step - rise) / max(1.0, steps - rise))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    x, y = split_labels(texts)
    draw = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []
    losses: list[float] = []
    for step in range(steps):
        if not order:
            order = list(torch.randperm(len(x), generator=draw).split(batch_size))
        index = order.pop()
        loss = F.cross_entropy(module(x[index].to(device)).flatten(0, 1), y[index].to(device).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step, losses[-1])
    module.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))


def attack_success(module: nn.Module, texts: Window, seed: int, batch_size: int = 256) -> float:
    """The share of windows with a trigger written into them after which the model goes on with CONTINUATION, greedily.

    Greedy decoding gives CONTINUATION exactly if each of its characters is the most likely one after those before it,
    so one pass over trigger and continuation is enough.
    """
    changed, starts = with_trigger(texts, seed)
    length = len(CONTINUATION)
    places = torch.from_numpy(starts)[:, None] + len(TRIGGER) - 1 + torch.arange(length)
    x, y = split_labels(changed)
    wanted = torch.gather(y, 1, places)
    device = next(module.parameters()).device
    module.eval()
    with torch.no_grad():
        found = torch.cat([module(part.to(device)).argmax(2).cpu() for part in x.split(batch_size)])
    return float((torch.gather(found, 1, places) == wanted).all(1).double().mean())
