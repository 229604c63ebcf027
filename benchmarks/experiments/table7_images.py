"""Table 7, first and second part: a backdoored ResNet-18, and levels of label noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.experiments.common import Context, Recipe, Trained, load_data, run_grid, train_model
from benchmarks.experiments.corruptions import TARGET, small, triggered
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
    told,
    works,
)
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Table
from zkcert.errors import UnusableInput
from zkcert.metric import Network
from zkcert.metric.evaluate import accuracy

MONOTONE, FLAT, ALPHA, ENOUGH = 0.8, 0.3, 0.05, 10
MONOTONE_RULE = (
    f"reproduced if Spearman's correlation of level and score over models is at least {MONOTONE}, a one-sided "
    f"permutation test gives p <= {ALPHA}, and the mean score rises from every level to the next; not reproduced if "
    f"the correlation is at most {FLAT} over at least {ENOUGH} models; inconclusive otherwise"
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
        clean = self.recipe.but(corruption="none", amount=0.0)
        recipes = [self.recipe.but(amount=amount) if amount else clean for amount in self.amounts]
        return [Model(self.audit, recipe.but(seed=seed, data_seed=seed)) for recipe in recipes for seed in range(seeds)]


@dataclass(frozen=True)
class Model:
    """One model of a grid."""

    audit: Audit
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.recipe.model}, {self.recipe.corruption} {self.recipe.amount:g}, seed {self.recipe.seed}"


def attack_success(module: torch.nn.Module, recipe: Recipe, context: Context) -> float:
    """The share of test images of other classes that the model takes for the target class once they have the trigger.

    The test images are the recipe's test subset.
    """
    data = load_data(recipe.dataset, context)
    raw, labels = small(data.test_x, data.test_y, recipe.test_samples, 0)
    marked = data.inputs(triggered(raw[labels != TARGET]))
    return accuracy(Network.of_module(module), marked, torch.full((len(marked),), TARGET))


def observed(trained: Trained, module: torch.nn.Module, audit: Audit, context: Context) -> Observation:
    """What is known of a module that was trained on the data of `trained` (its own one, or one derived from it)."""
    found = observe(module, (trained.x, trained.y), trained.test, audit, trained.recipe.seed)
    return {**found, "success": attack_success(module, trained.recipe, context)}


def model_of(model: Model, context: Context) -> Observation:
    """Train one model of the grid, or take it from the cache, and observe it."""
    trained = train_model(model.recipe, context)
    return {**observed(trained, trained.module, model.audit, context), "seconds": trained.seconds}


def grouped(part: Levels, found: Sequence[Observation]) -> dict[float, list[Observation]]:
    """Observations in the order of `Levels.models` by amount."""
    seeds = len(found) // len(part.amounts)
    return {amount: list(found[i * seeds : (i + 1) * seeds]) for i, amount in enumerate(part.amounts)}


def backdoor(part: Levels, seeds: int, context: Context) -> Part:
    """Clean models against models trained on data with a BadNets backdoor, at several poison rates."""
    found = run_grid(model_of, part.models(seeds), context, "table7 backdoor")
    names = {amount: f"{amount:.1%} poisoned" if amount else "clean" for amount in part.amounts}
    groups = {names[amount]: models for amount, models in grouped(part, found).items()}
    columns = [COMMITTED, HELD_OUT, *part.audit.measures, "success"]
    about = f"Directional sharpness tells a {part.recipe.model} with a backdoor from a clean one"
    claims = [
        claim(f"{about} ({kind})", told(groups["clean"], models), working=works(models))
        for kind, models in groups.items()
        if kind != "clean"
    ]
    return Part(
        data=load_data(part.recipe.dataset, context).origin,
        tables=compared(f"Backdoor, {part.recipe.model}", groups, "clean", columns),
        claims=claims,
        figure={kind: column(models, COMMITTED) for kind, models in groups.items()},
        values={kind: list(models) for kind, models in groups.items()},
    )


def rank_correlation(levels: Sequence[float], scores: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Spearman's correlation, and p of a one-sided permutation test (9,999 seeded ones); nan, 1 for constant scores."""
    from scipy.stats import permutation_test, rankdata

    ranks = rankdata(levels), rankdata(scores)
    if min(np.ptp(r) for r in ranks) == 0:
        return float("nan"), 1.0

    def correlation(first: np.ndarray) -> float:
        return float(np.corrcoef(first, ranks[1])[0, 1])

    tested = permutation_test(
        (ranks[0],), correlation, permutation_type="pairings", alternative="greater", rng=np.random.default_rng(seed)
    )
    return float(tested.statistic), float(tested.pvalue)


def monotone(correlation: float, p: float, means: Sequence[float], models: int) -> str:
    """The verdict of `MONOTONE_RULE`; means: of the score at each level, in the order of levels."""
    if correlation >= MONOTONE and p <= ALPHA and all(np.diff(means) > 0):
        return REPRODUCED
    return NOT_REPRODUCED if correlation <= FLAT and models >= ENOUGH else INCONCLUSIVE


def noise(part: Levels, seeds: int, context: Context) -> Part:
    """Models trained on labels of which more and more are wrong: does the score rise with the level?"""
    found = run_grid(model_of, part.models(seeds), context, "table7 noise")
    by_amount = grouped(part, found)
    levels = [amount for amount, models in by_amount.items() for _ in models]
    groups = {f"{amount:.0%} noise": models for amount, models in by_amount.items()}
    columns = [COMMITTED, HELD_OUT, *part.audit.measures]
    trends = {
        name: rank_correlation(levels, [EXPECTED.get(name, 1) * value for value in column(found, name)])
        for name in columns
    }
    rows = [[HEADERS[name], trends[name][0], trends[name][1]] for name in columns]
    means = [float(np.mean(column(models, COMMITTED))) for models in by_amount.values()]
    correlation, p = trends[COMMITTED]
    shown = ", ".join(f"{amount:.0%}: {mean:.3g}" for amount, mean in zip(by_amount, means, strict=True))
    verdict = monotone(correlation, p, means, len(found))
    return Part(
        data=load_data(part.recipe.dataset, context).origin,
        tables=[
            *compared("Label noise", groups, next(iter(groups)), columns),
            Table(
                "Label noise: Spearman's correlation of each number (accuracies negated) with the level, over models; "
                "p of a one-sided permutation test.",
                ["measure", "Spearman", "p"],
                rows,
            ),
        ],
        claims=[
            Claim(
                "Directional sharpness rises with the level of label noise",
                verdict,
                f"Spearman {correlation:.2f} (p = {p:.2g}), means {shown}",
                MONOTONE_RULE,
            )
        ],
        figure={kind: column(models, COMMITTED) for kind, models in groups.items()},
        values={kind: list(models) for kind, models in groups.items()},
    )
