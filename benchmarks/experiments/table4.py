"""Table 4: membership inference from scores of single examples, on overfitted and on well-generalising models.

Per model: the cross-entropy loss, first-order static ASAM sharpness and directional sharpness of single examples,
B = 1, of members (training samples) and of others (test samples), see `zkcert.metric.membership`, which also fixes that
members have the smaller scores. An attack is as good as its AUC over examples; spread and intervals are over models.

An example's probe fails where its loss vanishes (its log ratio is log(eps) then) or where it diverges (its scores are
above all others then). Both are counted, and what rests on a model with such an example is inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiments.claims import all_of, judged
from benchmarks.experiments.common import CLAIMS_FIRST, Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, spread
from benchmarks.experiments.separation import TIE, mean_interval, sign
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe
from zkcert.metric.membership import SCORES, ExampleScores, Membership, example_scores

FIGURE_SIZE = (9.0, 4.0)
OVERFITTED, GENERALISING = "overfitted", "generalising"
LABELS = {"loss": "loss", "static": "static ASAM", "directional": "directional sharpness"}
MARGINAL = 0.55
"""An AUC up to this is no attack worth the name, whether or not it differs from 1/2."""


@dataclass(frozen=True)
class Profile4(Profile):
    """kinds: the recipe of each kind of model; examples: members, and as many others, of each model."""

    kinds: dict[str, Recipe] = field(default_factory=dict)
    examples: int = 1000
    probe: Probe = field(default_factory=lambda: Probe(batch_size=1))


_OURS = "T, trainings, the generalising kind, that members are taken to have the smaller scores"
_SMALLER = "; a small CNN on Fashion-MNIST for VGG-16-BN on CIFAR-10"
_SMALL = Recipe(dataset="fashion", test_samples=2000, model="cnn", width=16, lr=0.02, batch_size=32)
_PAPER = Recipe(dataset="cifar", model="vgg16_bn", lr=0.05, batch_size=128, weight_decay=5e-4, warmup=0.1)
PROFILES = {
    "tiny": Profile4(
        "tiny",
        2,
        _OURS,
        kinds={
            OVERFITTED: Recipe(dataset="shipped", samples=60, model="mlp", width=16, epochs=25, batch_size=16),
            GENERALISING: Recipe(dataset="shipped", samples=400, model="mlp", width=16, epochs=2, weight_decay=1e-3),
        },
        examples=40,
        probe=Probe(steps=3, batch_size=1),
    ),
    "small": Profile4(
        "small",
        5,
        _OURS + _SMALLER,
        CLAIMS_FIRST,
        kinds={
            OVERFITTED: _SMALL.but(samples=2000, epochs=40),
            GENERALISING: _SMALL.but(samples=10_000, epochs=6, weight_decay=1e-3, dropout=0.3, warmup=0.1),
        },
    ),
    "paper": Profile4(
        "paper",
        5,
        _OURS,
        CLAIMS_FIRST,
        kinds={
            OVERFITTED: _PAPER.but(epochs=200),
            GENERALISING: _PAPER.but(epochs=200, augment=True),
        },
    ),
}


@dataclass(frozen=True)
class Attack:
    """A model to attack: which kind, its recipe, how many members and others, the probe."""

    kind: str
    recipe: Recipe
    examples: int
    probe: Probe


def attack(item: Attack, context: Context) -> dict[str, Any]:
    """Train the model and score members and others, in float64; JSON values."""
    trained = train_model(item.recipe, context)
    network = Network.of_module(trained.module.double())
    (members, lost), (others, lost_others) = (
        scored(network, x.double(), y, item.probe)
        for x, y in (
            some(trained.x, trained.y, item.examples, item.recipe.seed),
            some(*trained.test, item.examples, item.recipe.seed),
        )
    )
    found = Membership.of(members, others)
    return {
        "kind": item.kind,
        "seed": item.recipe.seed,
        "train_accuracy": trained.train_accuracy,
        "test_accuracy": trained.test_accuracy,
        "vanished": list(found.vanished),
        "diverged": [lost, lost_others],
        "members": len(members.loss),
        "others": len(others.loss),
        "auc": {name: found.results[name].auc for name in SCORES},
        "accuracy": {name: found.results[name].accuracy for name in SCORES},
    }


def scored(network: Network, x: Tensor, y: Tensor, probe: Probe) -> tuple[ExampleScores, int]:
    """`example_scores`, and how many examples diverged: those have the largest finite number as every score.

    Raises UnusableInput if none can be scored.
    """
    try:
        return example_scores(network, x, y, probe), 0
    except UnusableInput:
        if len(x) == 1:
            raise
    parts: list[ExampleScores | None] = []
    for i in range(len(x)):
        try:
            parts.append(example_scores(network, x[i : i + 1], y[i : i + 1], probe))
        except UnusableInput as error:
            parts.append(None)
            last = error
    if not any(parts):
        raise last
    worst = np.array([np.finfo(np.float64).max])
    whole = [part or ExampleScores(worst, worst, worst, np.array([False])) for part in parts]
    columns = (np.concatenate([getattr(part, name) for part in whole]) for name in (*SCORES, "vanished"))
    return ExampleScores(*columns), parts.count(None)


def some(x: Tensor, y: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` of the samples at random, or all if there are no more."""
    index = torch.tensor(np.random.default_rng([seed, 5]).permutation(len(x))[:count])
    return x[index], y[index]


# --------------------------------------------------------------------------------------------------- verdicts


def works(aucs: Sequence[float]) -> str:
    """Whether an attack works, from its AUC on models of several seeds."""
    low, high = mean_interval(aucs)
    if low > 0.5 and float(np.mean(aucs)) > MARGINAL:
        return REPRODUCED
    return NOT_REPRODUCED if high <= MARGINAL and high - low > TIE else INCONCLUSIVE


WORKS = (
    f"reproduced if the 95% t-interval of the mean AUC over models lies above 0.5 and the mean above {MARGINAL}; not "
    f"reproduced if the interval ends below {MARGINAL} and has a width; inconclusive otherwise, and where the probe of "
    "an example failed"
)


def better(differences: Sequence[float]) -> str:
    """Whether the first of two numbers is the larger, from their differences per seed."""
    return sign(*mean_interval(differences))


def best(gains: Sequence[Sequence[float]]) -> str:
    """Whether a number is larger than all others, from its differences to each, per seed."""
    return all_of([better(gain) for gain in gains])


BETTER = (
    "reproduced if the 95% t-interval of the mean difference of AUCs over seeds lies above 0; not reproduced if it "
    "lies below 0 and has a width (ties have none); inconclusive otherwise, and where the probe of an example failed"
)


def failed(found: Sequence[dict[str, Any]], *kinds: str) -> int:
    """Examples of models of these kinds whose probe failed."""
    return sum(sum(m["vanished"]) + sum(m["diverged"]) for m in found if m["kind"] in kinds)


def claims(found: Sequence[dict[str, Any]]) -> list[Claim]:
    """The paper's two, of overfitted models, and questions of ours."""
    auc = {
        (kind, name): [m["auc"][name] for m in found if m["kind"] == kind]
        for kind in (OVERFITTED, GENERALISING)
        for name in SCORES
    }
    ours = auc[OVERFITTED, "directional"]
    sound, both_sound = not failed(found, OVERFITTED), not failed(found, OVERFITTED, GENERALISING)
    made = [
        Claim(
            "Directional sharpness of single examples tells members of overfitted models from others",
            works(ours) if sound else INCONCLUSIVE,
            f"AUC {spread(ours)}",
            WORKS,
        )
    ]
    for name, key in (("t4-auc", "auc"), ("t4-acc", "accuracy")):
        values = {score: [m[key][score] for m in found if m["kind"] == OVERFITTED] for score in SCORES}
        gains = {
            score: [a - b for a, b in zip(values["directional"], values[score], strict=True)]
            for score in ("loss", "static")
        }
        told = "; ".join(
            f"{spread(values['directional'])} against {spread(values[score])} of {LABELS[score]}, difference "
            f"{spread(gain)}"
            for score, gain in gains.items()
        )
        made.append(judged(name, best(list(gains.values())) if sound else INCONCLUSIVE, told))
    leak = [a - b for a, b in zip(ours, auc[GENERALISING, "directional"], strict=True)]
    made.append(
        Claim(
            "Overfitted models give their members away more than well-generalising ones, by directional sharpness",
            better(leak) if both_sound else INCONCLUSIVE,
            f"AUC {spread(ours)} against {spread(auc[GENERALISING, 'directional'])}; difference {spread(leak)}",
            BETTER,
        )
    )
    return made


# -------------------------------------------------------------------------------------------------------- run


def run(profile: Profile4, context: Context) -> Result:
    """Train models of both kinds, attack each, compare."""
    items = [
        Attack(kind, recipe.but(seed=seed, data_seed=seed), profile.examples, profile.probe)
        for seed in profile.numbers
        for kind, recipe in profile.kinds.items()
    ]
    found = run_grid(attack, items, context, "table4")
    return Result(
        name="table4",
        title="Table 4: membership inference",
        profile=profile.name,
        data=load_data(items[0].recipe.dataset, context).origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_attacks(found), _models(found)],
        claims=claims(found),
        notes=notes(profile),
        values={"models": found, "probe": profile.probe.to_dict()},
    )


def notes(profile: Profile4) -> list[str]:
    """What a reader has to know of the numbers."""
    probe = profile.probe
    return [
        f"Probe: T = {probe.steps}, B = 1, rho = {float(probe.rho):g}, lr = {float(probe.lr):g}, {probe.variant}, in "
        "float64. The best balanced accuracy has its threshold chosen on the same examples, so it is above 1/2 by "
        "chance. For seeds of the same number the training subset of both kinds starts from the same permutation.",
        "An example's probe fails where its loss is exactly 0 at some step (its log ratio is taken as log(eps) there), "
        "or where it diverges (it is ranked above all others). The table of models counts both; a claim about models "
        "with such examples is inconclusive.",
    ]


def _attacks(found: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for kind in (OVERFITTED, GENERALISING):
        models = [m for m in found if m["kind"] == kind]
        for name in SCORES:
            auc, accuracy = ([m[key][name] for m in models] for key in ("auc", "accuracy"))
            low, high = np.clip(mean_interval(auc), 0, 1)
            cells = [
                spread(auc),
                f"[{low:.3f}, {high:.3f}]",
                f"{min(auc):.3f} to {max(auc):.3f}",
                spread(accuracy),
            ]
            rows.append([kind, LABELS[name], *cells])
    columns = ["models", "score", "AUC", "95% of the mean", "range over seeds", "best balanced accuracy"]
    return Table("Attacks, mean and deviation over models", columns, rows)


def _models(found: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for kind in (OVERFITTED, GENERALISING):
        models = [m for m in found if m["kind"] == kind]
        accuracies = [spread(m[key] for m in models) for key in ("train_accuracy", "test_accuracy")]
        lost = [[sum(m[key][i] for m in models) for i in (0, 1)] for key in ("vanished", "diverged")]
        counts = [f"{members} + {others}" for members, others in lost]
        rows.append([kind, len(models), *accuracies, models[0]["members"], models[0]["others"], *counts])
    columns = [
        "models",
        "number",
        "training accuracy",
        "test accuracy",
        "members scored",
        "others scored",
        "examples whose loss vanished (members + others, summed over models)",
        "examples that diverged (members + others)",
    ]
    return Table("Models", columns, rows)


def draw(result: Result, figure: Any) -> None:
    """The AUC of every model, by kind and score."""
    models = result.values["models"]
    for ax, kind in zip(figure.subplots(1, 2, sharey=True), (OVERFITTED, GENERALISING), strict=True):
        values = [[m["auc"][name] for m in models if m["kind"] == kind] for name in SCORES]
        for i, aucs in enumerate(values):
            ax.plot([i] * len(aucs), aucs, "o", alpha=0.6)
            ax.plot([i - 0.2, i + 0.2], [np.mean(aucs)] * 2, color="black")
        ax.axhline(0.5, color="grey", linestyle=":")
        ax.set_xticks(range(len(SCORES)), [LABELS[name].replace(" ", "\n") for name in SCORES])
        ax.set_title(f"{kind} models")
    figure.axes[0].set_ylabel("AUC, members against others")
