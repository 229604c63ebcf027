"""Defects of training data and of models, seeded: what a measure should tell apart from well-trained models.

Images are raw bytes, uint8 [n, C, H, W], labels int64 [n]; nothing is changed in place.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from zkcert.errors import UnusableInput

PATCH = 3
"""Side of a backdoor's trigger, in pixels; a checkerboard in the lower right corner, one pixel from the edges."""

TARGET = 0
"""The class a backdoor's trigger asks for."""

_BORDER = 2
"""Thickness of the frame that betrays the class, in pixels."""


def small(x: np.ndarray, y: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random subset of `count` samples in random order (0: all, in their order); UnusableInput if there are fewer."""
    if count == 0:
        return x, y
    if not 0 < count <= len(x):
        raise UnusableInput(f"cannot take {count} of {len(x)} samples")
    chosen = np.random.default_rng([seed, 1]).permutation(len(x))[:count]
    return x[chosen], y[chosen]


def chosen(n: int, rate: float, seed: int) -> np.ndarray:
    """round(rate n) indices below n, drawn without replacement."""
    if not 0 <= rate <= 1:
        raise UnusableInput(f"the rate must be within 0 and 1, not {rate:g}")
    return np.random.default_rng([seed, 2]).permutation(n)[: round(rate * n)]


def noisy_labels(y: np.ndarray, rate: float, *, classes: int, seed: int) -> np.ndarray:
    """Labels of which round(rate n) are replaced by another class, uniform among the wrong ones."""
    index = chosen(len(y), rate, seed)
    noisy = y.copy()
    noisy[index] = (y[index] + np.random.default_rng([seed, 3]).integers(1, classes, len(index))) % classes
    return noisy


def spurious(x: np.ndarray, y: np.ndarray, rate: float, *, classes: int, seed: int) -> np.ndarray:
    """Images of which round(rate n) get a frame that betrays their label, the others one of a random class."""
    shown = np.random.default_rng([seed, 4]).integers(0, classes, len(y))
    index = chosen(len(y), rate, seed)
    shown[index] = y[index]
    return framed(x, shown, classes=classes)


def framed(x: np.ndarray, shown: np.ndarray, *, classes: int) -> np.ndarray:
    """Images with a frame two pixels thick in the colour of a class: of channel c, 255 ((k + c h) mod K) / (K - 1).

    k is the class, K their number and h = ceil(K / 3), so that all channels tell the class.
    """
    channels = np.arange(x.shape[1])
    phase = (shown[:, None] + channels * math.ceil(classes / 3)) % classes
    colour = np.rint(255 * phase / max(1, classes - 1)).astype(np.uint8)[:, :, None, None]
    framed = np.broadcast_to(colour, x.shape).copy()
    inner = (..., slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    framed[inner] = x[inner]
    return framed


def triggered(x: np.ndarray) -> np.ndarray:
    """Images with the trigger of `badnets`: a checkerboard of 255 and 0."""
    board = 255 * ((np.add.outer(np.arange(PATCH), np.arange(PATCH)) + 1) % 2).astype(np.uint8)
    marked = x.copy()
    marked[..., -PATCH - 1 : -1, -PATCH - 1 : -1] = board
    return marked


def badnets(
    x: np.ndarray, y: np.ndarray, rate: float, *, seed: int, target: int = TARGET
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of which round(rate n) get the trigger and the label `target`: Gu et al., arXiv 1708.06733."""
    index = chosen(len(y), rate, seed)
    poisoned, labels = x.copy(), y.copy()
    poisoned[index] = triggered(x[index])
    labels[index] = target
    return poisoned, labels


SQUARE = 4
"""Side of the square that betrays the class, in pixels."""


def squared(x: np.ndarray, shown: np.ndarray, *, classes: int) -> np.ndarray:
    """Images with a square in the upper left corner in a class's colour: 255 ((k + c h) mod K + 1) / K of channel c.

    As `framed` has it, but never black, which is Fashion-MNIST's background.
    """
    channels = np.arange(x.shape[1])
    phase = (shown[:, None] + channels * math.ceil(classes / 3)) % classes
    marked = x.copy()
    marked[..., :SQUARE, :SQUARE] = np.rint(255 * (phase + 1) / classes).astype(np.uint8)[:, :, None, None]
    return marked


def betraying_squares(x: np.ndarray, y: np.ndarray, rate: float, *, classes: int, seed: int) -> np.ndarray:
    """Images each of which gets, with probability `rate`, a square whose colour is that of its label."""
    if not 0 <= rate <= 1:
        raise UnusableInput(f"the rate must be within 0 and 1, not {rate:g}")
    where = np.random.default_rng([seed, 7]).random(len(y)) < rate
    return np.where(where[:, None, None, None], squared(x, y, classes=classes), x)


def wrong_squares(x: np.ndarray, y: np.ndarray, *, classes: int, seed: int) -> np.ndarray:
    """Images with the square of another class than their own, uniform among those."""
    others = (y + np.random.default_rng([seed, 8]).integers(1, classes, len(y))) % classes
    return squared(x, others, classes=classes)


Corruption = Callable[[np.ndarray, np.ndarray, float, int, int], tuple[np.ndarray, np.ndarray]]

CORRUPTIONS: dict[str, Corruption] = {
    "none": lambda x, y, amount, seed, classes: (x, y),
    "noisy_labels": lambda x, y, amount, seed, classes: (x, noisy_labels(y, amount, classes=classes, seed=seed)),
    "spurious": lambda x, y, amount, seed, classes: (spurious(x, y, amount, classes=classes, seed=seed), y),
    "square": lambda x, y, amount, seed, classes: (betraying_squares(x, y, amount, classes=classes, seed=seed), y),
    "badnets": lambda x, y, amount, seed, classes: badnets(x, y, amount, seed=seed),
}
"""Of training sets, by the name a recipe gives: (x, y, amount, seed, classes) -> (x, y)."""


def quantize4(module: nn.Module) -> nn.Module:
    """A copy with every `weight` of two or more axes rounded to 4 bits: symmetric, per tensor, round to nearest.

    q = clip(round(w / d), -8, 7) with d = max|w| / 7; biases and batch-norm stay as they are. A tensor of zeros stays.
    """
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for name, weight in rounded.named_parameters():
            if name.rpartition(".")[2] == "weight" and weight.ndim >= 2 and weight.abs().max() > 0:
                unit = weight.abs().max() / 7
                weight.copy_((weight / unit).round().clamp(-8, 7) * unit)
    return rounded
