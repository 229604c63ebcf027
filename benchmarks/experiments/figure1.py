"""Figure 1 and Table 5: the probe's trajectory from models trained with SGD and with SAM.

Pairs of models share initialisation, data and order of samples, and differ in the optimiser only. Every draw of the
probe uses the same samples on both. There are two kinds of pairs: trained for the same number of epochs, and until the
same training loss, since a model that is fitted less far can score lower for that alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.failures import RULE, note
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
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
}


@dataclass(frozen=True)
class Pairing(Profile):
    """Models to train with both optimisers, by the names of their pairs, and the probe."""

    bases: Mapping[str, Recipe] = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    draws: int = 5


_OURS = (
    "models' hyper-parameters (equal for both optimisers), SAM's rho of 0.05, the loss at which the second kind of "
    "pairs stops, the probe's length and number of draws"
)

_TINY = Recipe(dataset="shipped", samples=100, test_samples=100, model="mlp", width=8, lr=0.02, epochs=2)
_SMALL = Recipe(samples=3000, test_samples=5000, model="lenet5", lr=0.02, weight_decay=5e-4, epochs=20, warmup=0.1)
_PAPER = [
    Recipe(
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
]


def _pairs(base: Recipe, until_loss: float, epochs: int) -> dict[str, Recipe]:
    """Both kinds of pairs of a model; the second trains at a constant rate, for at most so many epochs."""
    matched = base.but(until_loss=until_loss, epochs=epochs, warmup=None)
    return {
        f"{base.model}, {base.epochs} epochs": base,
        f"{base.model}, until a training loss of {until_loss:g}": matched,
    }


PROFILES: dict[str, Pairing] = {
    "tiny": Pairing(
        "tiny",
        seeds=2,
        ours=_OURS,
        bases=_pairs(_TINY, until_loss=1.8, epochs=20),
        probe=Probe(steps=4, batch_size=4),
        draws=2,
    ),
    "small": Pairing(
        "small",
        seeds=5,
        ours=_OURS,
        bases=_pairs(_SMALL, until_loss=0.3, epochs=40),
        probe=Probe(steps=50, batch_size=16),
        draws=5,
    ),
    "paper": Pairing(
        "paper",
        seeds=5,
        ours=_OURS,
        bases={key: value for base in _PAPER for key, value in _pairs(base, 0.05, 200).items()},
        probe=Probe(steps=200, batch_size=16),
        draws=10,
    ),
}


def run(profile: Pairing, context: Context) -> Result:
    """Train pairs, run the probe on them, compare."""
    runs = [
        (name, base.but(optimizer=optimizer, seed=seed, data_seed=seed))
        for name, base in profile.bases.items()
        for seed in range(profile.seeds)
        for optimizer in OPTIMIZERS
    ]
    origin = "; ".join(dict.fromkeys(load_data(base.dataset, context).origin for base in profile.bases.values()))
    found = run_grid(partial(_probed, profile), [recipe for _, recipe in runs], context, TITLE)
    trained: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (name, recipe), values in zip(runs, found, strict=True):
        trained.setdefault(name, {}).setdefault(recipe.optimizer, []).append(values)
    groups = {name: _reached(group) for name, group in trained.items()}
    probe = profile.probe
    return Result(
        name=NAME,
        title=TITLE,
        profile=profile.name,
        data=origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_table(name, group) for name, group in groups.items() if group["sgd"]],
        claims=[claim for name, group in groups.items() for claim in claims(name, group)],
        notes=[
            f"Probe: T = {probe.steps}, B = {probe.batch_size}, rho = {float(probe.rho):g}, learning rate "
            f"{float(probe.lr):g}, {probe.variant}; {profile.draws} draws per model, the same for both optimisers. A "
            "pair's difference is taken between the means over its draws. The wording of the claims is ours. Training "
            f"took {sum(value['seconds'] for value in found) / 60:.1f} min in all, one model per core.",
            *(quality(name, group, profile.seeds) for name, group in groups.items()),
            note({f"{n}, {o.upper()}": [v["draws"] for v in g[o]] for n, g in groups.items() for o in OPTIMIZERS}),
        ],
        values={"groups": groups},
    )


def _probed(profile: Pairing, recipe: Recipe, context: Context) -> dict[str, Any]:
    """Means over draws of each quantity, infinite if one failed; curves over the steps, of the draws that did not fail.

    Curves are the mean over draws, and the first draw.
    """
    model = train_model(recipe, context)
    found = trajectories(model.network(), model.x, model.y, profile.probe, range(profile.draws))
    finished = [t for t in found if t is not None]
    complete = len(finished) == len(found)
    values: dict[str, Any] = {
        "draws": [math.inf if t is None else t.score for t in found],
        "score": float(np.mean([t.score for t in finished])) if complete else math.inf,
        "std_sharpness": float(np.mean([t.statistic("std-sharpness") for t in finished])) if complete else math.inf,
        "train_loss": model.train_loss,
        "train_accuracy": model.train_accuracy,
        "test_accuracy": model.test_accuracy,
        "reached": model.reached,
        "seconds": model.seconds,
    }
    for name in CURVES:
        curves = np.array([getattr(t, name) for t in finished] or [[math.nan] * profile.probe.steps])
        values[name] = float(curves.mean()) if complete else math.inf
        values[f"{name}_curve"] = curves.mean(0).tolist()
        values[f"{name}_single"] = curves[0].tolist()
    return values


Group = Mapping[str, Sequence[Mapping[str, Any]]]


def _reached(group: Group) -> dict[str, list[Mapping[str, Any]]]:
    """The pairs of which both models reached the loss that they were to reach, if any was asked for."""
    pairs = [pair for pair in zip(*(group[o] for o in OPTIMIZERS), strict=True) if all(v["reached"] for v in pair)]
    return {optimizer: [pair[i] for pair in pairs] for i, optimizer in enumerate(OPTIMIZERS)}


def _differences(group: Group, quantity: str) -> list[float]:
    """SGD less SAM, per pair of models."""
    return [a[quantity] - b[quantity] for a, b in zip(group["sgd"], group["sam"], strict=True)]


def claims(name: str, group: Group) -> list[Claim]:
    """The verdicts for one kind of pairs."""
    found = []
    rule = (
        "reproduced if Student's 95 % interval for the mean difference of the pairs (SGD less SAM) lies above 0, not "
        f"reproduced if it lies below 0, otherwise inconclusive; {RULE}"
    )
    for quantity, claim in (
        ("score", "A model trained with SAM has lower directional sharpness than its twin trained with SGD"),
        ("sharpness", "Along the probe, the sharpness s_t of SAM's model is lower than that of SGD's"),
    ):
        differences = _differences(group, quantity)
        low, high = paired_interval(differences)
        verdict = REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE
        numbers = "no pair reached the loss"
        if differences:
            numbers = (
                f"SGD {spread(v[quantity] for v in group['sgd'])}, SAM {spread(v[quantity] for v in group['sam'])}; "
                f"difference {np.mean(differences):.3g} [{low:.3g}, {high:.3g}], positive in "
                f"{sum(d > 0 for d in differences)} of {len(differences)} pairs"
            )
        found.append(Claim(f"{claim} ({name})", verdict, numbers, rule))
    return found


def quality(name: str, group: Group, seeds: int) -> str:
    """Which model of a pair is the better one, beside the score: a lower score is not a better model by itself."""
    score, accuracy = _differences(group, "score"), _differences(group, "test_accuracy")
    if not score:
        return f"{name}: of {seeds} pairs none reached the loss."
    worse = sum(s * a > 0 for s, a in zip(score, accuracy, strict=True))
    better = sum(s * a < 0 for s, a in zip(score, accuracy, strict=True))
    means = {
        quantity: [f"{np.mean([v[quantity] for v in group[o]]):.3f}" for o in OPTIMIZERS]
        for quantity in ("test_accuracy", "train_loss")
    }
    return (
        f"{name}: {len(score)} of {seeds} pairs are complete. The model with the lower directional sharpness has the "
        f"lower test accuracy in {worse} of them and the higher in {better}; SAM's has the lower test accuracy in "
        f"{sum(a > 0 for a in accuracy)}. Mean test accuracy: SGD {means['test_accuracy'][0]}, SAM "
        f"{means['test_accuracy'][1]}; mean training loss: SGD {means['train_loss'][0]}, SAM {means['train_loss'][1]}."
    )


def _table(name: str, group: Group) -> Table:
    rows = []
    for quantity, title in QUANTITIES.items():
        low, high = paired_interval(_differences(group, quantity))
        means = [spread(value[quantity] for value in group[optimizer]) for optimizer in OPTIMIZERS]
        rows.append([title, *means, f"[{low:.3g}, {high:.3g}]"])
    title = f"{name}: mean ± standard deviation over models, and Student's 95 % interval of the difference of the pairs"
    return Table(title, ["quantity", "SGD", "SAM", "SGD less SAM"], rows)


def draw(result: Result, figure: Any) -> None:
    """s_t, L_t and y_t over the steps: a single draw, and mean and deviation over models of the means over draws.

    Of the first kind of pairs.
    """
    drawn = {name: group for name, group in result.values["groups"].items() if group["sgd"]}
    if not drawn:
        return
    name, group = next(iter(drawn.items()))
    labels = {"sharpness": "s_t", "loss": "L_t", "log_ratio": "y_t = log(s_t² / L_t)"}
    for axis, curve in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for optimizer in OPTIMIZERS:
            curves = np.array([value[f"{curve}_curve"] for value in group[optimizer]])
            mean, deviation, steps = curves.mean(0), curves.std(0), np.arange(curves.shape[1])
            [line] = axis.plot(steps, mean, label=f"{name}, {optimizer.upper()}: mean")
            axis.fill_between(steps, mean - deviation, mean + deviation, alpha=0.25)
            single = group[optimizer][0][f"{curve}_single"]
            axis.plot(steps, single, color=line.get_color(), linewidth=0.6, label="one draw")
        axis.set_xlabel("step t", fontsize=8)
        axis.set_title(labels[curve], fontsize=9)
        axis.tick_params(labelsize=7)
    figure.axes[0].legend(fontsize=7)
