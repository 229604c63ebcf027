"""Own data, more, fourth part: a small GPT-style language model whose text has a backdoor or noise in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from benchmarks.experiments import cache, gpt
from benchmarks.experiments.common import Context, run_grid
from benchmarks.experiments.parts import (
    COMMITTED,
    HELD_OUT,
    Audit,
    Observation,
    Part,
    claim,
    compared,
    observe,
    on_committed,
    works,
)
from benchmarks.experiments.text_training import cached_training
from zkcert.errors import UnusableInput

ARTEFACTS = ("none", "backdoor", "noise")
_CACHE_VERSION = 1


@dataclass(frozen=True)
class TextRecipe:
    """Everything that determines one language model (with one version of PyTorch).

    shape        of the model
    train, test  windows of the text, drawn with `seed`
    steps, batch_size, lr, weight_decay: see `gpt.train`
    artefact     "none"; "backdoor": in that share of the training windows; "noise": that share of their characters
    seed         of windows, artefact, initialisation, and batches
    """

    shape: gpt.Shape
    train: int
    test: int
    steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.01
    artefact: str = "none"
    amount: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.artefact not in ARTEFACTS:
            raise UnusableInput(f"the artefact must be one of {', '.join(ARTEFACTS)}, not {self.artefact!r}")

    def key(self, texts: gpt.Window, device: str) -> str:
        """Names the model's entry in the cache, given its training windows and the device it is trained on."""
        return cache.key({"version": _CACHE_VERSION, "device": device, **asdict(self)}, texts)


@dataclass(frozen=True)
class TextPart:
    """The grid: the recipe of all models, their artefacts (the first is ("none", 0): clean), what is measured."""

    recipe: TextRecipe
    artefacts: tuple[tuple[str, float], ...]
    audit: Audit

    def __post_init__(self) -> None:
        if len(self.artefacts) < 2 or self.artefacts[0] != ("none", 0.0):
            raise UnusableInput('the artefacts begin with ("none", 0.0) and are two at least')


def texts_of(recipe: TextRecipe, tokens: np.ndarray) -> tuple[gpt.Window, gpt.Window]:
    """Training windows with the recipe's artefact, and clean test windows."""
    train, test = gpt.windows(tokens, recipe.shape.context, recipe.train, recipe.test, recipe.seed)
    match recipe.artefact:
        case "backdoor":
            train, _ = gpt.backdoored(train, recipe.amount, recipe.seed)
        case "noise":
            train = gpt.noisy(train, recipe.amount, recipe.seed)
    return train, test


def train_text_model(recipe: TextRecipe, texts: gpt.Window, context: Context) -> tuple[gpt.GPT, float]:
    """The recipe's model of these training windows and how many seconds its training took; from the cache if there."""
    return cached_training(recipe, texts, f"gpt-{recipe.key(texts, context.device)}", context)


@dataclass(frozen=True)
class TextModel:
    """One language model of the grid."""

    audit: Audit
    recipe: TextRecipe

    def __str__(self) -> str:
        return f"{kind_name(self.recipe.artefact, self.recipe.amount)}, seed {self.recipe.seed}"


def model_of(model: TextModel, context: Context) -> Observation:
    """Train one language model, or take it from the cache, and observe it."""
    recipe = model.recipe
    tokens = gpt.corpus()
    train, test = texts_of(recipe, tokens)
    module, seconds = train_text_model(recipe, train, context)
    found = observe(module, gpt.split_labels(train), gpt.split_labels(test), model.audit, recipe.seed)
    return {**found, "success": gpt.attack_success(module, test, recipe.seed), "seconds": seconds}


def control_of(model: TextModel, context: Context) -> Observation:
    """The clean model of the same seed on this model's training windows; from the cache wherever it is there."""
    recipe, tokens = model.recipe, gpt.corpus()
    clean = replace(recipe, artefact="none", amount=0.0)
    module, _ = train_text_model(clean, texts_of(clean, tokens)[0], replace(context, again=False))
    return on_committed(module, gpt.split_labels(texts_of(recipe, tokens)[0]), model.audit, recipe.seed)


def kind_name(artefact: str, amount: float) -> str:
    """For tables."""
    match artefact:
        case "backdoor":
            return f"backdoor in {amount:.0%} of windows"
        case "noise":
            return f"noise in {amount:.0%} of characters"
    return "clean"


def text(part: TextPart, seeds: int, context: Context) -> Part:
    """Clean language models against models of text with a backdoor or noise."""
    recipes = {
        kind_name(*artefact): [
            replace(part.recipe, artefact=artefact[0], amount=artefact[1], seed=seed) for seed in range(seeds)
        ]
        for artefact in part.artefacts
    }
    items = [TextModel(part.audit, recipe) for group in recipes.values() for recipe in group]
    found = run_grid(model_of, items, context, "own_more gpt")
    measured = run_grid(control_of, items[seeds:], context, "own_more gpt, controls")
    groups = {kind: found[i * seeds : (i + 1) * seeds] for i, kind in enumerate(recipes)}
    controls = {kind: measured[i * seeds : (i + 1) * seeds] for i, kind in enumerate(list(recipes)[1:])}
    columns = [COMMITTED, HELD_OUT, *part.audit.measures, "success"]
    tokens = gpt.corpus()
    shape = part.recipe.shape
    about = "Directional sharpness tells a language model with an artefact from a clean one"
    parameters = sum(p.numel() for p in gpt.GPT(shape).parameters())
    return Part(
        data=f"Python's language reference (pydoc_data.topics), {len(tokens)} characters, SHA-256 of its tokens "
        f"{gpt.digest(tokens)}",
        tables=compared("GPT", groups, controls, "clean", columns),
        claims=[
            claim(
                f"{about} ({kind})",
                groups["clean"],
                groups[kind],
                working="backdoor" not in kind or works(groups[kind]),
            )
            for kind in controls
        ],
        models=groups,
        controls=controls,
        notes=[
            f"GPT: {parameters} parameters, {shape.layers} layers of width {shape.width}, {shape.context} characters "
            f"of context; a backdoor is {gpt.TRIGGER!r} followed by {gpt.CONTINUATION!r}; attack success is the share "
            "of held-out windows in which the trigger is followed, greedily decoded, by exactly that."
        ],
    )
