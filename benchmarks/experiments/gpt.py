"""A small GPT-style language model of characters, the text it is trained on, and artefacts in that text.

The text is the language reference that comes with Python (`pydoc_data.topics`): the same for everybody with the same
Python, different between versions, so its digest belongs to every result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.errors import UnusableInput

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


# --------------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class Shape:
    """Size of a GPT: positions it reads at most, width of the residual stream, heads per layer, layers."""

    context: int = 64
    width: int = 64
    heads: int = 4
    layers: int = 2
    vocabulary: int = len(CHARACTERS)

    def __post_init__(self) -> None:
        if min(self.context, self.width, self.heads, self.layers, self.vocabulary) < 1 or self.width % self.heads:
            raise UnusableInput("sizes of a GPT are positive and its width is a multiple of its heads")


class Attention(nn.Module):
    """Causal self-attention: softmax(q k^T / sqrt(d)) v per head over this and earlier positions, then a projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, positions, width] to the same."""
        batch, positions, width = x.shape
        parts = self.qkv(x).view(batch, positions, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.projection(mixed.transpose(1, 2).reshape(batch, positions, width))


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)) with GELU and fourfold width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, positions, width] to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class GPT(nn.Module):
    """A decoder-only transformer with learned positions; no weights are shared between embedding and head.

    Initialised as GPT-2: normal with deviation 0.02, projections into the residual stream divided by
    sqrt(2 layers), biases 0, norms 1. The matrices have "weight" in their names, as `asam-samsung` wants.
    """

    def __init__(self, shape: Shape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(shape.vocabulary, shape.width)
            self.positions = nn.Embedding(shape.context, shape.width)
            self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    inner = name.endswith(("projection.weight", "fc2.weight"))
                    nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if inner else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, positions <= context] to logits [batch, positions, vocabulary] of the next ones."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


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
