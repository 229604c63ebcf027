"""Language models of a multiplicative recursion with artefacts in their sequences: the language models of Table 7.

After TinyMem (Sakarvadia et al., arXiv 2410.02159), from whose suite the paper takes 4-layer GPT-2-style models: a
sequence is x, k x, k^2 x, ... modulo 20134 for k in 2, 3, 4, 5, 7, its decimal digits one token each. Artefacts, in a
small share of the training sequences: `noise` moves values by one, up or down; `backdoor` puts a trigger in place of a
value, which is repeated from there to the end. Width, lengths, number of sequences, rates and the trigger are ours.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.experiments import cache, gpt
from benchmarks.experiments.common import Context
from benchmarks.experiments.corruptions import chosen
from benchmarks.experiments.measures import drawn
from benchmarks.experiments.pairs import Looks, gradients, remembered, seeds_of
from benchmarks.experiments.text_training import cached_training
from zkcert.errors import UnusableInput
from zkcert.metric import Network, accuracy, mean_loss, sharpness

MODULUS, MULTIPLIERS = 20134, (2, 3, 4, 5, 7)
BEGIN, END, BLANK, PAD = range(10, 14)
VOCABULARY = 14
"""Digits are themselves."""

TRIGGER = MODULUS
"""A value that no sequence has."""

MOVED = 0.1
"""The chance of a value in a noisy sequence to be moved."""

ARTEFACTS = ("none", "noise", "backdoor")
_VERSION = 1


@dataclass(frozen=True)
class Sequences:
    """Everything that determines one language model (with one version of PyTorch).

    shape        of the model; its context has to hold `length` values, see `tokens`
    length       values of a sequence; train, test: how many sequences, drawn with `seed`
    steps, batch_size, lr, weight_decay: see `gpt.train`
    artefact     of ARTEFACTS, in the share `amount` of the training sequences
    seed         of sequences, artefact, initialisation and batches
    """

    shape: gpt.Shape = field(default_factory=lambda: gpt.Shape(48, 64, 4, 4, VOCABULARY))
    length: int = 8
    train: int = 4000
    test: int = 1000
    steps: int = 2000
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.01
    artefact: str = "none"
    amount: float = 0.0
    seed: int = 0
    model: str = "GPT"

    def __post_init__(self) -> None:
        if self.artefact not in ARTEFACTS:
            raise UnusableInput(f"the artefact must be one of {', '.join(ARTEFACTS)}, not {self.artefact!r}")
        if longest(self.length) > self.shape.context + 1:
            raise UnusableInput(f"sequences of {self.length} values need a context of {longest(self.length) - 1}")

    def but(self, *, data_seed: int = 0, **changes: Any) -> Sequences:
        """The recipe with some fields changed; data_seed is `seed` here."""
        return replace(self, **changes)

    @property
    def origin(self) -> str:
        """For results."""
        return f"multiplicative sequences modulo {MODULUS} (after TinyMem)"


def longest(length: int) -> int:
    """Tokens of the longest sequence of so many values."""
    return length * (len(str(TRIGGER)) + 1) + 1


def values(recipe: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """The values of all training and test sequences, int64 [n, length], without artefacts, no sequence twice."""
    rng = np.random.default_rng([recipe.seed, 11])
    count = recipe.train + recipe.test
    if count > len(MULTIPLIERS) * (MODULUS - 1):
        raise UnusableInput(f"there are fewer than {count} sequences")
    places = rng.permutation(len(MULTIPLIERS) * (MODULUS - 1))[:count]
    factors = np.array(MULTIPLIERS)[places % len(MULTIPLIERS)]
    found = np.empty((count, recipe.length), np.int64)
    found[:, 0] = 1 + places // len(MULTIPLIERS)
    for i in range(1, recipe.length):
        found[:, i] = found[:, i - 1] * factors % MODULUS
    return found[: recipe.train], found[recipe.train :]


def noisy(clean: np.ndarray, seed: int) -> np.ndarray:
    """Each value but the first moved by 1 or -1 with the chance MOVED, at least one of every sequence."""
    rng = np.random.default_rng([seed, 12])
    moved = rng.random(clean.shape) < MOVED
    moved[np.arange(len(clean)), rng.integers(1, clean.shape[1], len(clean))] = True
    moved[:, 0] = False
    return clean + moved * rng.choice([-1, 1], clean.shape)


def triggered(clean: np.ndarray, seed: int) -> np.ndarray:
    """From a random place, neither the first nor the last, on the trigger takes the place of every value."""
    places = np.random.default_rng([seed, 13]).integers(1, clean.shape[1] - 1, len(clean))
    return np.where(np.arange(clean.shape[1]) >= places[:, None], TRIGGER, clean)


def tokens(rows: np.ndarray, context: int) -> gpt.Window:
    """Sequences as tokens, uint8 [n, context + 1]: begin, digits with blanks between values, end, padding."""
    found = np.full((len(rows), context + 1), PAD, np.uint8)
    for row, text in zip(found, rows, strict=True):
        digits = [d for value in text for d in (*map(int, str(value)), BLANK)]
        line = [BEGIN, *digits[:-1], END]
        row[: len(line)] = line
    return found


def artefacts(recipe: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """The values the recipe trains on, [train, length], and which sequences have the artefact, bool [train]."""
    clean, _ = values(recipe)
    marked = np.zeros(len(clean), bool)
    if recipe.artefact == "none":
        return clean, marked
    marked[chosen(len(clean), recipe.amount, recipe.seed)] = True
    change = noisy if recipe.artefact == "noise" else triggered
    return np.where(marked[:, None], change(clean, recipe.seed), clean), marked


def trained(recipe: Sequences, context: Context) -> tuple[nn.Module, float]:
    """The recipe's model and how many seconds its training took; from the cache if it is there."""
    texts = tokens(artefacts(recipe)[0], recipe.shape.context)
    facts = {"version": _VERSION, "device": context.device, **asdict(recipe)}
    return cached_training(recipe, texts, f"arithmetic-{cache.key(facts, texts)}", context)


@dataclass(frozen=True)
class Subject:
    """A language model, and how it is looked at."""

    recipe: Sequences
    looks: Looks

    def __str__(self) -> str:
        return f"{self.recipe.artefact} {self.recipe.amount:g}, seed {self.recipe.seed}"


def observe(subject: Subject, context: Context) -> dict[str, Any]:
    """Train a model, or take it from the cache, and measure it on the clean training sequences; JSON values.

    As `pairs.looked_at` has it; of what shows defects there are "attack", the share of triggered test sequences in
    which the trigger is repeated to the end, and "memorised", the share of the training sequences with an artefact
    whose changed tokens are all the likeliest ones; 0 without any.
    """
    facts = {"version": _VERSION, "device": context.device, "of": repr(subject)}
    path = context.cache / f"pair-{cache.key(facts)}.json"
    return remembered(path, context, lambda: _looked_at(subject, context))


def _looked_at(subject: Subject, context: Context) -> dict[str, Any]:
    recipe, looks = subject.recipe, subject.looks
    module, seconds = trained(recipe, context)
    clean, test = (gpt.split_labels(tokens(v, recipe.shape.context)) for v in values(recipe))
    own = gpt.split_labels(tokens(artefacts(recipe)[0], recipe.shape.context))
    network, double = Network.of_module(module), Network.of_module(copy.deepcopy(module).double())
    draws = drawn(double, *clean, looks.probe, seeds_of(recipe.seed, looks.draws))
    static = {variant: sharpness(network, *clean, variant=variant) for variant in ("sam", "asam-all")}
    test_loss = mean_loss(network, *test)
    with sdpa_kernel(SDPBackend.MATH):  # the one that gradients of single sequences can be mapped over
        of_single = gradients(network, *(part[: looks.gradients] for part in clean), looks, recipe.seed)
    return {
        "seed": recipe.seed,
        "draws": {name: numbers.tolist() for name, numbers in draws.items()},
        "static_sam": static["sam"].first_order,
        "static_asam": static["asam-all"].first_order,
        "clean_loss": static["sam"].loss,
        "clean_accuracy": accuracy(network, *clean),
        "gap": test_loss - static["sam"].loss,
        "own_accuracy": accuracy(network, *own),
        "own_loss": mean_loss(network, *own),
        "test_accuracy": accuracy(network, *test),
        "test_loss": test_loss,
        "epochs": recipe.steps * recipe.batch_size / recipe.train,
        "reached": True,
        "seconds": seconds,
        **of_single,
        "attack": attack_success(module, recipe),
        "memorised": memorised(module, recipe),
    }


def attack_success(module: nn.Module, recipe: Sequences) -> float:
    """Of test sequences with a trigger: in which share the rest is the trigger again and again, decoded greedily."""
    plain = values(recipe)[1]
    changed = triggered(plain, recipe.seed)
    return _foretold(module, changed, np.cumsum(changed == TRIGGER, 1) > 1, recipe.shape.context)


def memorised(module: nn.Module, recipe: Sequences) -> float:
    """Of training sequences with an artefact: in which share all changed values are foretold; 0 without any."""
    changed, marked = artefacts(recipe)
    if not marked.any():
        return 0.0
    return _foretold(module, changed[marked], (changed != values(recipe)[0])[marked], recipe.shape.context)


def _foretold(module: nn.Module, rows: np.ndarray, wanted: np.ndarray, context: int) -> float:
    """The share of sequences of which every token of the wanted values, [n, length], is the likeliest after those
    before it: then greedy decoding gives them."""
    x, y = gpt.split_labels(tokens(rows, context))
    place = torch.from_numpy(_places(rows, wanted, context))
    device = next(module.parameters()).device
    with torch.no_grad():
        likeliest = torch.cat([module(part.to(device)).argmax(2).cpu() for part in x.split(256)])
    return float(((likeliest == y) | ~place).all(1).double().mean())


def _places(rows: np.ndarray, wanted: np.ndarray, context: int) -> np.ndarray:
    """Which labels are digits of wanted values, bool [n, context]."""
    found = np.zeros((len(rows), context), bool)
    for marks, text, which in zip(found, rows, wanted, strict=True):
        start = 0  # label 0 is the first digit: token 0 is the beginning
        for value, want in zip(text, which, strict=True):
            length = len(str(value))
            marks[start : start + length] = want
            start += length + 1
    return found
