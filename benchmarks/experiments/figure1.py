"""Figure 1 and Table 5: static and directional sharpness of models trained with SGD and with SAM, over training epochs.

Pairs of models share initialisation, data and order of samples, and differ in the optimiser only. After each of the
last epochs (the paper: the last 50 of 150) both are measured on the clean training set, every draw on the same
samples; the gap is test loss minus training loss. Claims and rules: docs/results/claims.toml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from benchmarks.experiments.claims import judged
from benchmarks.experiments.common import CLAIMS_FIRST, Context, Profile, Recipe, follow, load_data, run_grid
from benchmarks.experiments.defects import in_float64
from benchmarks.experiments.failures import note, settled
from benchmarks.experiments.measures import scores
from benchmarks.experiments.pairs import measured_at, remembered
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, spread
from benchmarks.experiments.statistics import over_seeds
from zkcert.metric import Network, Probe, accuracy, mean_loss, sharpness

NAME = "figure1"
TITLE = "Figure 1 and Table 5: SGD and SAM over training epochs"
FIGURE_SIZE = (9.0, 3.6)
OPTIMIZERS = ("sgd", "sam")
MOSTLY = 0.9
"""The share of epochs at which SAM has to be lower."""

QUANTITIES = {
    "score": "directional sharpness, mean of draws",
    "static_asam": "static ASAM sharpness",
    "gap": "gap (test loss minus training loss)",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}


@dataclass(frozen=True)
class Course(Profile):
    """base: of both optimisers; last: so many epochs are measured; end: of these, the last ones that Table 5 is of."""

    base: Recipe = field(default_factory=Recipe)
    last: int = 10
    end: int = 6
    probe: Probe = field(default_factory=Probe)
    draws: int = 5


_OURS = "hyper-parameters (equal for both optimisers) and their schedule, the number of draws"
PROFILES: dict[str, Course] = {
    "tiny": Course(
        "tiny",
        2,
        _OURS,
        CLAIMS_FIRST,
        base=Recipe(dataset="shipped", samples=100, test_samples=100, model="mlp", width=8, lr=0.02, epochs=4),
        last=3,
        end=2,
        probe=Probe(steps=4, batch_size=4),
        draws=2,
    ),
    "small": Course(
        "small",
        5,
        _OURS
        + "; LeNet-5 on a subset of Fashion-MNIST for VGG-16-BN on CIFAR-10, 30 epochs for 150, the last 10 for 50",
        CLAIMS_FIRST,
        base=Recipe(samples=6000, test_samples=5000, model="lenet5", lr=0.02, weight_decay=5e-4, epochs=30, warmup=0.1),
    ),
    "paper": Course(
        "paper",
        5,
        _OURS,
        CLAIMS_FIRST,
        base=Recipe(
            dataset="cifar",
            model="vgg16_bn",
            lr=0.05,
            weight_decay=5e-4,
            batch_size=128,
            epochs=150,
            warmup=0.05,
            augment=True,
        ),
        last=50,
        end=30,
    ),
}

Run = Mapping[str, Any]
"""Of a model: "epochs", each a mapping of QUANTITIES and "draws"."""

Pairs = Mapping[str, Sequence[Run]]
"""Runs by optimiser, in the order of seeds."""


def run(profile: Course, context: Context) -> Result:
    """Train and measure all models, compare the pairs."""
    recipes = [
        profile.base.but(optimizer=optimizer, seed=seed, data_seed=seed)
        for optimizer in OPTIMIZERS
        for seed in profile.numbers
    ]
    found = run_grid(partial(course, profile), recipes, context, TITLE)
    pairs = {o: found[i * profile.seeds : (i + 1) * profile.seeds] for i, o in enumerate(OPTIMIZERS)}
    probe = profile.probe
    return Result(
        name=NAME,
        title=TITLE,
        profile=profile.name,
        data=load_data(profile.base.dataset, context).origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_over_epochs(pairs, profile), _at_the_end(pairs)],
        claims=claims(pairs, profile),
        notes=[
            f"Probe: T = {probe.steps}, B = {probe.batch_size}, rho = {float(probe.rho):g}, learning rate "
            f"{float(probe.lr):g}, {probe.variant}; {profile.draws} draws after each of the last {profile.last} of "
            f"{profile.base.epochs} epochs, the same samples for both optimisers.",
            note({o.upper(): [e["draws"] for r in pairs[o] for e in r["epochs"]] for o in OPTIMIZERS}),
        ],
        values={"pairs": pairs, "epochs": profile.base.epochs},
    )


def course(profile: Course, recipe: Recipe, context: Context) -> dict[str, Any]:
    """Train a model and measure it after each of the last epochs; JSON values, from the cache if they are there."""
    looks = (profile.last, profile.probe, profile.draws)

    def compute() -> dict[str, Any]:
        data, found = load_data(recipe.dataset, context), []

        def after(epoch: int, module: nn.Module, train: Any, test: Any) -> None:
            if epoch >= recipe.epochs - profile.last:
                found.append(measured(profile, recipe.seed, epoch, module, train, test))

        follow(recipe, data, context, after)
        return {"seed": recipe.seed, "epochs": found}

    return remembered(measured_at("course", recipe, context, looks), context, compute)


def measured(profile: Course, seed: int, epoch: int, module: nn.Module, train: Any, test: Any) -> dict[str, Any]:
    """The quantities of a model as it is; the draws of an epoch differ from those of another."""
    network = Network.of_module(module)
    draws = scores(
        in_float64(module), *train, profile.probe, [f"figure1/{seed}/{epoch}/{i}" for i in range(profile.draws)]
    )
    train_loss, test_loss = mean_loss(network, *train), mean_loss(network, *test)
    return {
        "draws": draws.tolist(),
        "score": float(draws.mean()),
        "static_asam": sharpness(network, *train, variant="asam-all").first_order,
        "gap": test_loss - train_loss,
        "train_loss": train_loss,
        "test_loss": test_loss,
        "test_accuracy": accuracy(network, *test),
    }


def differences(pairs: Pairs, quantity: str, logarithm: bool = False) -> np.ndarray:
    """SGD less SAM, [seeds, epochs]."""
    a, b = (np.array([[e[quantity] for e in r["epochs"]] for r in pairs[o]], float) for o in OPTIMIZERS)
    with np.errstate(invalid="ignore"):
        return np.log(a) - np.log(b) if logarithm else a - b


def claims(pairs: Pairs, profile: Course) -> list[Claim]:
    """The verdicts; see docs/results/claims.toml."""
    score, static = differences(pairs, "score"), differences(pairs, "static_asam", logarithm=True)[:, -profile.end :]
    gap = differences(pairs, "gap")[:, -1]
    mean, positive = over_seeds(score.mean(1).tolist()), float((score > 0).mean())
    verdict = INCONCLUSIVE
    if mean["low"] > 0 and positive >= MOSTLY:
        verdict = REPRODUCED
    elif mean["high"] < 0:
        verdict = NOT_REPRODUCED
    flatter, smaller = over_seeds(static.mean(1).tolist()), over_seeds(gap.tolist())
    ends = {o: [r["epochs"][-1] for r in pairs[o]] for o in OPTIMIZERS}
    told = {
        name: f"SGD {spread(e[name] for e in ends['sgd'])}, SAM {spread(e[name] for e in ends['sam'])} after the last "
        "epoch"
        for name in ("score", "static_asam", "gap")
    }
    return [
        judged(
            "f1-directional",
            settled(verdict, score),
            f"SGD less SAM {_interval(mean)}, positive at {positive:.0%} of the epochs of all pairs; {told['score']}",
        ),
        judged(
            "f1-static",
            settled(_sign(-flatter["high"], -flatter["low"]), static),
            f"log static ASAM, SGD less SAM, {_interval(flatter)}; {told['static_asam']}",
        ),
        judged(
            "f1-gap",
            settled(_sign(smaller["low"], smaller["high"]), gap),
            f"SGD less SAM {_interval(smaller)}; {told['gap']}",
        ),
    ]


def _sign(low: float, high: float) -> str:
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"


def _over_epochs(pairs: Pairs, profile: Course) -> Table:
    rows = []
    for i in range(profile.last):
        cells = [
            spread(r["epochs"][i][name] for r in pairs[o])
            for name in ("score", "static_asam", "gap")
            for o in OPTIMIZERS
        ]
        rows.append([profile.base.epochs - profile.last + i + 1, *cells])
    columns = [f"{QUANTITIES[name]}, {o.upper()}" for name in ("score", "static_asam", "gap") for o in OPTIMIZERS]
    return Table("After each epoch: mean ± deviation over models", ["epoch", *columns], rows)


def _at_the_end(pairs: Pairs) -> Table:
    rows = []
    for name, title in QUANTITIES.items():
        cells = [spread(r["epochs"][-1][name] for r in pairs[o]) for o in OPTIMIZERS]
        rows.append([title, *cells, _interval(over_seeds(differences(pairs, name)[:, -1].tolist()))])
    return Table("After the last epoch: mean ± deviation over models", ["quantity", "SGD", "SAM", "SGD less SAM"], rows)


def draw(result: Result, figure: Any) -> None:
    """SAM over SGD of both measures, over the epochs, mean over pairs: one message, which of them tells SAM."""
    pairs, axis = result.values["pairs"], figure.subplots()
    for name, style in (("score", "-"), ("static_asam", "--")):
        logs = -differences(pairs, name, logarithm=True)
        first = result.values["epochs"] - logs.shape[1] + 1
        epochs = np.arange(first, first + logs.shape[1])
        with np.errstate(invalid="ignore"):
            mean = np.exp(logs.mean(0))
        axis.plot(epochs, mean, style, color="black")
        if math.isfinite(mean[-1]):
            axis.annotate(f"  {QUANTITIES[name].partition(',')[0]}", (epochs[-1], mean[-1]), fontsize=8, va="center")
    axis.axhline(1, color="0.8", zorder=0)
    axis.set_yscale("log")
    axis.margins(x=0.25)
    axis.set_xlabel("epoch of training")
    axis.set_ylabel("SAM's model over SGD's\n(below 1: SAM looks flatter)")
