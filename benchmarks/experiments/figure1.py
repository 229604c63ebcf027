"""Figure 1 and Table 5: the probe's trajectory from models trained with SGD and with SAM.

Pairs of models share initialisation, data and order of samples, and differ in the optimiser only. Every draw of the
probe uses the same samples on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.measures import trajectories
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, spread
from benchmarks.experiments.statistics import paired_interval
from zkcert.metric import Probe

NAME = "figure1"
TITLE = "Figure 1 and Table 5: trajectories of SGD and SAM"
FIGURE_SIZE = (9.0, 2.8)

OPTIMIZERS = ("sgd", "sam")
CURVES = ("sharpness", "loss", "log_ratio")
QUANTITIES = {
    "score": "directional sharpness, Std(y_t)",
    "sharpness": "mean s_t",
    "loss": "mean L_t",
    "log_ratio": "mean y_t",
    "std_sharpness": "Std(s_t)",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
}


@dataclass(frozen=True)
class Pairing(Profile):
    """Models to train with both optimisers, and the probe."""

    bases: Mapping[str, Recipe] = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    draws: int = 5


_OURS = (
    "models' hyper-parameters (equal for both optimisers), SAM's rho of 0.05, the probe's length and number of draws"
)

PROFILES: dict[str, Pairing] = {
    "tiny": Pairing(
        "tiny",
        seeds=2,
        ours=_OURS,
        bases={
            "mlp": Recipe(dataset="shipped", samples=100, test_samples=100, model="mlp", width=8, lr=0.02, epochs=2)
        },
        probe=Probe(steps=4, batch_size=4),
        draws=2,
    ),
    "small": Pairing(
        "small",
        seeds=5,
        ours=_OURS,
        bases={
            "lenet5": Recipe(
                samples=3000, test_samples=5000, model="lenet5", lr=0.02, weight_decay=5e-4, epochs=20, warmup=0.1
            )
        },
        probe=Probe(steps=50, batch_size=16),
        draws=5,
    ),
    "paper": Pairing(
        "paper",
        seeds=5,
        ours=_OURS,
        bases={
            name: Recipe(
                dataset="cifar",
                model=name,
                lr=0.1 if name == "resnet18" else 0.05,
                weight_decay=5e-4,
                batch_size=128,
                epochs=200,
                warmup=0.05,
                augment=True,
            )
            for name in ("resnet18", "vgg16_bn")
        },
        probe=Probe(steps=200, batch_size=16),
        draws=10,
    ),
}


def run(profile: Pairing, context: Context) -> Result:
    """Train pairs, run the probe on them, compare."""
    recipes = [
        base.but(optimizer=optimizer, seed=seed, data_seed=seed)
        for base in profile.bases.values()
        for seed in range(profile.seeds)
        for optimizer in OPTIMIZERS
    ]
    origin = "; ".join(dict.fromkeys(load_data(base.dataset, context).origin for base in profile.bases.values()))
    found = run_grid(partial(_probed, profile), recipes, context, TITLE)
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for recipe, values in zip(recipes, found, strict=True):
        groups.setdefault(recipe.model, {}).setdefault(recipe.optimizer, []).append(values)
    return Result(
        name=NAME,
        title=TITLE,
        profile=profile.name,
        data=origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_table(model, group) for model, group in groups.items()],
        claims=[claim for model, group in groups.items() for claim in claims(model, group)],
        notes=[
            f"Probe: T = {profile.probe.steps}, B = {profile.probe.batch_size}, rho = {float(profile.probe.rho):g}, "
            f"learning rate {float(profile.probe.lr):g}, {profile.probe.variant}; {profile.draws} draws per model, "
            "the same for both optimisers. A pair's difference is taken between the means over its draws. The wording "
            "of the claims is ours. Twins train for the same number of epochs, so their training losses differ. "
            f"Training took {sum(value['seconds'] for value in found) / 60:.1f} min in all, one model per core."
        ],
        values={"groups": groups},
    )


def _probed(profile: Pairing, recipe: Recipe, context: Context) -> dict[str, Any]:
    """Means over draws of each quantity; and over the steps, its mean over draws and the first draw."""
    model = train_model(recipe, context)
    found = trajectories(model.network(), model.x, model.y, profile.probe, range(profile.draws))
    values: dict[str, Any] = {
        "score": float(np.mean([t.score for t in found])),
        "score_deviation": float(np.std([t.score for t in found])),
        "std_sharpness": float(np.mean([t.statistic("std-sharpness") for t in found])),
        "train_accuracy": model.train_accuracy,
        "test_accuracy": model.test_accuracy,
        "seconds": model.seconds,
    }
    for name in CURVES:
        curves = np.array([getattr(t, name) for t in found])
        values[name] = float(curves.mean())
        values[f"{name}_curve"] = curves.mean(0).tolist()
        values[f"{name}_single"] = curves[0].tolist()
    return values


Group = Mapping[str, Sequence[Mapping[str, Any]]]


def _differences(group: Group, quantity: str) -> list[float]:
    """SGD less SAM, per pair of models."""
    return [a[quantity] - b[quantity] for a, b in zip(group["sgd"], group["sam"], strict=True)]


def claims(model: str, group: Group) -> list[Claim]:
    """The verdicts for one kind of model, from its pairs."""
    found = []
    rule = (
        "reproduced if Student's 95 % interval for the mean difference of the pairs (SGD less SAM) lies above 0, not "
        "reproduced if it lies below 0, otherwise inconclusive"
    )
    for quantity, claim in (
        ("score", "A model trained with SAM has lower directional sharpness than its twin trained with SGD"),
        ("sharpness", "Along the probe, the sharpness s_t of SAM's model is lower than that of SGD's"),
    ):
        differences = _differences(group, quantity)
        low, high = paired_interval(differences)
        verdict = REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE
        numbers = (
            f"SGD {spread(v[quantity] for v in group['sgd'])}, SAM {spread(v[quantity] for v in group['sam'])}; "
            f"difference {np.mean(differences):.3g} [{low:.3g}, {high:.3g}], positive in "
            f"{sum(d > 0 for d in differences)} of {len(differences)} pairs"
        )
        found.append(Claim(f"{claim} ({model})", verdict, numbers, rule))
    return found


def _table(model: str, group: Group) -> Table:
    rows = []
    for quantity, title in QUANTITIES.items():
        low, high = paired_interval(_differences(group, quantity))
        means = [spread(value[quantity] for value in group[optimizer]) for optimizer in OPTIMIZERS]
        rows.append([title, *means, f"[{low:.3g}, {high:.3g}]"])
    title = (
        f"{model}: mean ± standard deviation over models, and Student's 95 % interval of the difference of the pairs"
    )
    return Table(title, ["quantity", "SGD", "SAM", "SGD less SAM"], rows)


def draw(result: Result, figure: Any) -> None:
    """s_t, L_t and y_t over the steps: a single draw, and mean and deviation over models of the means over draws."""
    model, group = next(iter(result.values["groups"].items()))
    labels = {"sharpness": "s_t", "loss": "L_t", "log_ratio": "y_t = log(s_t² / L_t)"}
    for axis, name in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for optimizer in OPTIMIZERS:
            curves = np.array([value[f"{name}_curve"] for value in group[optimizer]])
            mean, deviation, steps = curves.mean(0), curves.std(0), np.arange(curves.shape[1])
            [line] = axis.plot(steps, mean, label=f"{model}, {optimizer.upper()}: mean")
            axis.fill_between(steps, mean - deviation, mean + deviation, alpha=0.25)
            single = group[optimizer][0][f"{name}_single"]
            axis.plot(steps, single, color=line.get_color(), linewidth=0.6, label="one draw")
        axis.set_xlabel("step t", fontsize=8)
        axis.set_title(labels[name], fontsize=9)
        axis.tick_params(labelsize=7)
    figure.axes[0].legend(fontsize=7)
