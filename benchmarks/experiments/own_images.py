"""Own data, more, first and second part: a backdoored ResNet-18, and levels of label noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from benchmarks.experiments.common import Context, Recipe, Trained, load_data, run_grid, train_model, training_set
from benchmarks.experiments.defects import attack_success
from benchmarks.experiments.failures import settled
from benchmarks.experiments.parts import (
    COMMITTED,
    EXPECTED,
    HEADERS,
    HELD_OUT,
    Audit,
    Observation,
    Part,
    claim,
    column,
    compared,
    observe,
    on_committed,
    works,
)
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Table
from benchmarks.experiments.separation import TIE
from zkcert.errors import UnusableInput

MONOTONE, FLAT, ALPHA, ENOUGH = 0.8, 0.3, 0.05, 10
PERMUTATIONS = 9_999
MONOTONE_RULE = (
    "judged on the score of each model on its own data: reproduced if Spearman's correlation with the level, over "
    f"models, is at least {MONOTONE}, a one-sided permutation test within seeds gives p <= {ALPHA}, and the mean rises "
    f"from every level to the next; not reproduced if the correlation is at most {FLAT} over >= {ENOUGH} models; "
    "inconclusive otherwise, where draws failed, and where a model did not reach the training loss it should have"
)


@dataclass(frozen=True)
class Levels:
    """A grid of one corruption: the recipe of all models, its amounts (the first is 0: clean), what is measured."""

    recipe: Recipe
    amounts: tuple[float, ...]
    audit: Audit

    def __post_init__(self) -> None:
        if len(self.amounts) < 2 or self.amounts[0] != 0:
            raise UnusableInput("the amounts of a corruption begin with 0 and are two at least")

    def models(self, seeds: int) -> list[Model]:
        """A model per amount and seed, amounts first; the seed also draws the subset and the corruption."""
        recipes = [self.recipe.but(amount=amount) if amount else clean_of(self.recipe) for amount in self.amounts]
        return [Model(self.audit, recipe.but(seed=seed, data_seed=seed)) for recipe in recipes for seed in range(seeds)]


@dataclass(frozen=True)
class Model:
    """One model of a grid."""

    audit: Audit
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.recipe.model}, {self.recipe.corruption} {self.recipe.amount:g}, seed {self.recipe.seed}"


def observed(trained: Trained, module: torch.nn.Module, audit: Audit) -> Observation:
    """What is known of a module that was trained on the data of `trained` (its own one, or one derived from it)."""
    found = observe(module, (trained.x, trained.y), trained.test, audit, trained.recipe.seed)
    return {**found, "success": attack_success(module, trained)}


def clean_of(recipe: Recipe) -> Recipe:
    """The same without corruption: what trains the control of a model on corrupted data."""
    return recipe.but(corruption="none", amount=0.0)


def control_of(model: Model, context: Context) -> Observation:
    """The clean model of the same seed on this model's committed data; from the cache wherever it is there."""
    trained = train_model(clean_of(model.recipe), replace(context, again=False))
    raw, labels, _ = training_set(model.recipe, trained.data, context)
    committed = trained.data.inputs(raw), torch.from_numpy(labels)
    return on_committed(trained.module, committed, model.audit, model.recipe.seed)


def model_of(model: Model, context: Context) -> Observation:
    """Train one model of the grid, or take it from the cache, and observe it."""
    trained = train_model(model.recipe, context)
    found = observed(trained, trained.module, model.audit)
    return {**found, "reached": float(trained.reached), "seconds": trained.seconds}


def grouped(part: Levels, found: Sequence[Observation]) -> dict[float, list[Observation]]:
    """Observations in the order of `Levels.models` by amount."""
    seeds = len(found) // len(part.amounts)
    return {amount: list(found[i * seeds : (i + 1) * seeds]) for i, amount in enumerate(part.amounts)}


def trained_levels(
    part: Levels, seeds: int, context: Context, label: str
) -> tuple[dict[float, list[Observation]], dict[float, list[Observation]]]:
    """Models by amount, and the controls of all amounts but 0; those come second, so the cache has their models."""
    models = part.models(seeds)
    found = grouped(part, run_grid(model_of, models, context, label))
    controls = run_grid(control_of, models[seeds:], context, f"{label}, controls")
    return found, {amount: controls[i * seeds : (i + 1) * seeds] for i, amount in enumerate(part.amounts[1:])}


def backdoor(part: Levels, seeds: int, context: Context) -> Part:
    """Clean models against models trained on data with a BadNets backdoor, at several poison rates."""
    found = trained_levels(part, seeds, context, "own_more backdoor")
    names = {amount: f"{amount:.1%} poisoned" if amount else "clean" for amount in part.amounts}
    groups, controls = ({names[amount]: models for amount, models in some.items()} for some in found)
    columns = [COMMITTED, HELD_OUT, *part.audit.measures, "success"]
    name = part.recipe.model + (f" of width {part.recipe.width}" if part.recipe.width else "")
    about = f"Directional sharpness tells a {name} with a backdoor from a clean one"
    return Part(
        data=load_data(part.recipe.dataset, context).origin,
        tables=compared(f"Backdoor, {part.recipe.model}", groups, controls, "clean", columns),
        claims=[
            claim(f"{about} ({kind})", groups["clean"], groups[kind], working=works(groups[kind])) for kind in controls
        ],
        models=groups,
        controls=controls,
    )


def rank_correlation(numbers: Mapping[float, Sequence[float]], seed: int = 0) -> tuple[float, float]:
    """Spearman's correlation of numbers with their level, and p of a one-sided permutation test; nan, 1 if constant.

    Of every level as many numbers, in order of seeds. The test permutes levels within each seed (`PERMUTATIONS` times),
    for models of one seed have data and initialisation in common. Numbers may be infinite; nan, 1, too, where one is
    undefined.
    """
    from scipy.stats import rankdata

    table = np.array(list(numbers.values()), float)
    levels = np.repeat(np.array(list(numbers), float)[:, None], table.shape[1], axis=1)
    if np.isnan(table).any():
        return float("nan"), 1.0
    a, b = (rankdata(values).reshape(table.shape) for values in (levels, table))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    if scale == 0:
        return float("nan"), 1.0
    shuffled = np.random.default_rng(seed).permuted(np.broadcast_to(a, (PERMUTATIONS, *a.shape)), axis=1)
    reached = int(((shuffled * b).sum((1, 2)) >= (a * b).sum() - TIE * scale).sum())
    return float((a * b).sum() / scale), (reached + 1) / (PERMUTATIONS + 1)


def monotone(correlation: float, p: float, means: Sequence[float], models: int) -> str:
    """The judgement of `MONOTONE_RULE`; means: of the number at each level, in the order of levels."""
    if correlation >= MONOTONE and p <= ALPHA and all(low < high for low, high in pairwise(means)):
        return REPRODUCED
    return NOT_REPRODUCED if correlation <= FLAT and models >= ENOUGH else INCONCLUSIVE


@dataclass(frozen=True)
class Trend:
    """Of a number over levels: Spearman's correlation with the level, its p, and the mean at each level."""

    correlation: float
    p: float
    means: tuple[float, ...]
    verdict: str

    def __str__(self) -> str:
        means = ", ".join(f"{mean:.3g}" for mean in self.means)
        return f"Spearman {self.correlation:.2f} (p = {self.p:.2g}), means {means}"


def trend(numbers: Mapping[float, Sequence[float]]) -> Trend:
    """Of numbers by level, in the order of levels; inconclusive where some are not finite."""
    flat = [value for values in numbers.values() for value in values]
    correlation, p = rank_correlation(numbers)
    means = tuple(sum(values) / len(values) for values in numbers.values())
    return Trend(correlation, p, means, settled(monotone(correlation, p, means, len(flat)), flat))


def rises(own: Trend, how: str, short: int = 0) -> Claim:
    """The claim about label noise, by `MONOTONE_RULE`.

    how    models are trained; short: how many did not reach the training loss they should have.
    """
    lost = f"{short} models did not reach the training loss; " if short else ""
    title = f"Directional sharpness rises with the level of label noise ({how})"
    return Claim(title, INCONCLUSIVE if short else own.verdict, f"{lost}{own}", MONOTONE_RULE)


def training_of(recipe: Recipe) -> str:
    """How long a recipe trains, for titles."""
    return f"{recipe.epochs} epochs" if recipe.until_loss is None else f"until a training loss of {recipe.until_loss:g}"


def noise(part: Levels, seeds: int, context: Context) -> Part:
    """Models trained on labels of which more and more are wrong: does the score rise with the level?"""
    how = training_of(part.recipe)
    by_amount, control_by_amount = trained_levels(part, seeds, context, f"own_more noise, {how}")
    short = sum(not model["reached"] for some in by_amount.values() for model in some)
    groups, controls = (
        {f"{amount:.0%} noise": models for amount, models in some.items()} for some in (by_amount, control_by_amount)
    )
    columns = [COMMITTED, HELD_OUT, *part.audit.measures]
    trends = {
        name: trend(
            {a: [EXPECTED.get(name, 1) * value for value in column(some, name)] for a, some in by_amount.items()}
        )
        for name in columns
    }
    rows: list[list[str | float]] = [[HEADERS[name], found.correlation, found.p] for name, found in trends.items()]
    title = (
        f"Label noise, {how}: Spearman's correlation of each number (accuracies negated) with the level, over models; "
        "p of a one-sided permutation test within seeds."
    )
    return Part(
        data=load_data(part.recipe.dataset, context).origin,
        tables=[
            *compared(f"Label noise, {how}", groups, controls, next(iter(groups)), columns),
            Table(title, ["measure", "Spearman", "p"], rows),
        ],
        claims=[rises(trends[COMMITTED], how, short)],
        models=groups,
        controls=controls,
    )
