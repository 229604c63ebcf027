"""Table 1: how measures of many models, trained alike but for their hyper-parameters, go with generalisation.

A full grid over optimiser, learning rate, weight decay, batch size, dropout and width, with several seeds. As in Jiang
et al. (arXiv 1912.02178) every model is trained until the same training loss, and those that do not get there are left
out and counted. Targets: the generalisation gap (training less test accuracy) and the test error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.measures import MEASURES, measure_all
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, shown
from benchmarks.experiments.statistics import (
    all_pairs,
    axis_pairs,
    bootstrap,
    concordance,
    granulated,
    interval,
    spearman,
)
from zkcert.errors import UnusableInput
from zkcert.metric import Probe

NAME = "table1"
TITLE = "Table 1: correlation with generalisation"
FIGURE_SIZE = (9.0, 2.8)

AXES = ("optimizer", "lr", "weight_decay", "batch_size", "dropout", "width")
RIVALS = ("static_sam", "static_asam", "worst_case")
SHARPNESS = ("directional", *RIVALS)
COLUMNS = ("directional", "single", *RIVALS, "train_loss")
NAMES = {**MEASURES, "single": "directional sharpness, a single draw"}
TARGETS = {"gap": "generalisation gap", "error": "test error"}

FEWEST = 10
"""Models that have to be left for a verdict."""

NEGLIGIBLE = 0.1
"""A coefficient below this is no correlation worth the name."""


@dataclass(frozen=True)
class Grid(Profile):
    """Levels of each axis; learning rate and weight decay have levels per optimiser, for their scales differ."""

    base: Recipe = field(default_factory=Recipe)
    lr: Mapping[str, Sequence[float]] = field(default_factory=dict)
    weight_decay: Mapping[str, Sequence[float]] = field(default_factory=dict)
    batch_size: Sequence[int] = ()
    dropout: Sequence[float] = ()
    width: Sequence[int] = ()
    probe: Probe = field(default_factory=Probe)
    draws: int = 10
    worst_case: Mapping[str, Any] = field(default_factory=dict)
    resamples: int = 1000

    def runs(self) -> list[tuple[dict[str, Any], Recipe]]:
        """Each model's place in the grid, as levels by axis and the seed, and its recipe."""
        found = []
        for seed, optimizer in itertools.product(range(self.seeds), self.lr):
            levels = (self.lr[optimizer], self.weight_decay[optimizer], self.batch_size, self.dropout, self.width)
            for place in itertools.product(*(range(len(level)) for level in levels)):
                values = dict(zip(AXES[1:], (level[i] for level, i in zip(levels, place, strict=True)), strict=True))
                recipe = self.base.but(optimizer=optimizer, seed=seed, data_seed=seed, **values)
                # levels of rate and decay are numbered, so that slices along the optimiser pair them up
                place_of = {"optimizer": optimizer, **dict(zip(AXES[1:], place, strict=True)), "seed": seed}
                found.append((place_of, recipe))
        return found


_OURS = "the whole grid, models, stopping loss and number of draws; sharpness is taken on the training samples."

PROFILES: dict[str, Grid] = {
    "tiny": Grid(
        "tiny",
        seeds=2,
        ours=_OURS,
        base=Recipe(dataset="shipped", samples=100, test_samples=100, model="cnn", epochs=6, until_loss=1.5),
        lr={"sgd": (0.02, 0.05), "adam": (0.005, 0.01)},
        weight_decay={"sgd": (0.0,), "adam": (0.0,)},
        batch_size=(16,),
        dropout=(0.0, 0.2),
        width=(2,),
        probe=Probe(steps=3, batch_size=4),
        draws=2,
        worst_case={"restarts": 1, "ascent_steps": 2, "bisections": 1},
        resamples=50,
    ),
    "small": Grid(
        "small",
        seeds=2,
        ours=_OURS,
        base=Recipe(samples=600, test_samples=5000, model="cnn", epochs=50, until_loss=0.1),
        lr={"sgd": (0.01, 0.02), "adam": (0.0015, 0.004)},
        weight_decay={"sgd": (0.0, 0.005), "adam": (0.0, 0.3)},
        batch_size=(16, 64),
        dropout=(0.0, 0.2),
        width=(8, 16),
        worst_case={"restarts": 1, "ascent_steps": 10, "bisections": 4},
    ),
    "paper": Grid(
        "paper",
        seeds=2,
        ours=_OURS + " ResNet-18 is the paper's, its grid is ours.",
        base=Recipe(dataset="cifar", model="resnet18", epochs=200, until_loss=0.01),
        lr={"sgd": (0.03, 0.1), "adam": (0.0003, 0.001), "sam": (0.03, 0.1)},
        weight_decay={"sgd": (0.0, 0.0005), "adam": (0.0, 0.1), "sam": (0.0, 0.0005)},
        batch_size=(32, 128),
        dropout=(0.0, 0.25),
        width=(32, 64),
    ),
}


def run(profile: Grid, context: Context) -> Result:
    """Train the grid, measure every model, correlate."""
    runs = profile.runs()
    origin = load_data(profile.base.dataset, context).origin
    found = run_grid(partial(_measured, profile), [recipe for _, recipe in runs], context, TITLE)
    models = [{"place": place, **values} for (place, _), values in zip(runs, found, strict=True)]
    kept = [model for model in models if model["reached"]]
    if len(kept) < 2:
        raise UnusableInput(
            f"{len(kept)} of {len(models)} models reached the loss of {profile.base.until_loss}: nothing to correlate"
        )
    coefficients = {target: correlations(kept, target, profile.resamples) for target in TARGETS}
    return Result(
        name=NAME,
        title=TITLE,
        profile=profile.name,
        data=origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[
            *(_table(coefficients[target], target, len(kept)) for target in TARGETS),
            _left_out(models),
        ],
        claims=claims(coefficients["gap"], len(kept)),
        notes=_notes(profile, models, kept),
        values={"models": models, "coefficients": coefficients},
    )


def _measured(profile: Grid, recipe: Recipe, context: Context) -> dict[str, Any]:
    """What is known of one model; its measures only if it reached the common loss."""
    model = train_model(recipe, context)
    found: dict[str, Any] = {
        "reached": model.reached,
        "epochs": model.epochs,
        "seconds": model.seconds,
        "train_accuracy": model.train_accuracy,
        "test_accuracy": model.test_accuracy,
        "gap": model.gap,
        "error": 1 - model.test_accuracy,
        "train_loss": model.train_loss,
    }
    if model.reached:
        seeds = range(profile.draws)
        options = {"which": SHARPNESS, "worst_case": profile.worst_case}
        found |= measure_all(model.network(), (model.x, model.y), None, profile.probe, seeds, **options)
        found["single"] = found["directional/0"]
    return found


def correlations(models: Sequence[Mapping[str, Any]], target: str, resamples: int) -> dict[str, Any]:
    """Every coefficient of each of COLUMNS with a target, and intervals by bootstrap over models.

    By measure: "spearman", "kendall" and "psi", each [value, low, high]; "axes": psi_i by axis. Of each rival:
    "lead", the interval of Psi of directional sharpness less the rival's, in the same bootstrap samples.
    """
    goal = np.array([model[target] for model in models], float)
    axes = {axis: axis_pairs([model["place"] for model in models], axis) for axis in AXES}
    whole = all_pairs(len(models))
    found: dict[str, Any] = {}
    resampled: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        values = np.array([model[name] for model in models], float)
        coefficients: dict[str, Callable[..., float]] = {
            "spearman": partial(spearman, values, goal),
            "kendall": partial(concordance, values, goal, whole),
            "psi": partial(granulated, values, goal, axes),
        }
        entry: dict[str, Any] = {"axes": {axis: concordance(values, goal, pairs) for axis, pairs in axes.items()}}
        for key, statistic in coefficients.items():
            resampled[key] = bootstrap(statistic, len(models), draws=resamples)
            entry[key] = [statistic(), *interval(resampled[key])]
        found[name], resampled[name] = entry, resampled["psi"]
    for rival in RIVALS:
        found[rival]["lead"] = list(interval(resampled["directional"] - resampled[rival]))
    return found


def claims(coefficients: Mapping[str, Any], count: int) -> list[Claim]:
    """The verdicts, from the coefficients with the generalisation gap over `count` models."""
    found = []
    for key, what in (("kendall", "Kendall's tau"), ("psi", "granulated Psi")):
        value, low, high = coefficients["directional"][key]
        rule = (
            f"reproduced if the 95 % bootstrap interval of {what} lies above 0; not reproduced if it lies below "
            f"{NEGLIGIBLE}; otherwise, or with fewer than {FEWEST} models, inconclusive"
        )
        verdict = INCONCLUSIVE
        if count >= FEWEST:
            verdict = REPRODUCED if low > 0 else NOT_REPRODUCED if high < NEGLIGIBLE else INCONCLUSIVE
        claim = f"Directional sharpness ranks models as their generalisation gap does ({what})"
        found.append(Claim(claim, verdict, f"{what} {value:.2f} [{low:.2f}, {high:.2f}], {count} models", rule))
    leads = {rival: coefficients[rival]["lead"] for rival in RIVALS}
    verdict = INCONCLUSIVE
    if count >= FEWEST:
        if all(low > 0 for low, _ in leads.values()):
            verdict = REPRODUCED
        elif any(high < 0 for _, high in leads.values()):
            verdict = NOT_REPRODUCED
    numbers = "lead over " + ", ".join(f"{NAMES[r]} [{low:.2f}, {high:.2f}]" for r, (low, high) in leads.items())
    rule = (
        "reproduced if, against each of the three, the 95 % bootstrap interval of the difference of Psi lies above 0; "
        f"not reproduced if against one it lies below 0; otherwise, or with fewer than {FEWEST} models, inconclusive"
    )
    claim = "It does so better than full-dataset SAM and ASAM sharpness and worst-case sharpness (granulated Psi)"
    return [*found, Claim(claim, verdict, numbers, rule)]


def _table(coefficients: Mapping[str, Any], target: str, count: int) -> Table:
    rows = []
    for name in COLUMNS:
        entry = coefficients[name]
        three = [
            f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high in (entry[k] for k in ("spearman", "kendall", "psi"))
        ]
        rows.append([NAMES[name], *three, *(_two_digits(entry["axes"][axis]) for axis in AXES)])
    title = (
        f"Correlation with the {TARGETS[target]} over {count} models, 95 % bootstrap intervals in brackets; psi by axis"
    )
    return Table(title, ["measure", "Spearman", "Kendall", "Psi", *(axis.replace("_", " ") for axis in AXES)], rows)


def _two_digits(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _left_out(models: Sequence[Mapping[str, Any]]) -> Table:
    """How many models of each level reached the common loss."""
    rows = []
    for axis in AXES:
        for level in dict.fromkeys(model["place"][axis] for model in models):
            there = [model for model in models if model["place"][axis] == level]
            name = axis.replace("_", " ") + (f" {level}" if axis == "optimizer" else f", level {level + 1}")
            reached = [model for model in there if model["reached"]]
            gaps = [model["gap"] for model in reached]
            rows.append([name, len(there), len(reached), shown(float(np.mean(gaps))) if gaps else None])
    title = "Models trained, those that reached the common loss, and the mean gap of these"
    return Table(title, ["level", "trained", "kept", "gap"], rows)


def _notes(profile: Grid, models: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]) -> list[str]:
    base, levels = profile.base, {axis.replace("_", " "): getattr(profile, axis) for axis in AXES[1:]}
    grid = "; ".join(f"{name} {dict(v) if isinstance(v, Mapping) else tuple(v)}" for name, v in levels.items())
    notes = [
        f"Grid: optimiser {tuple(profile.lr)}; {grid}. Model {base.model} on {base.samples or 'all'} training samples, "
        f"trained to a loss of {base.until_loss}, for at most {base.epochs} epochs.",
        "Tau and Psi are those of Jiang et al. (arXiv 1912.02178), ties counting as 0. The claims are worded by us.",
    ]
    gaps, seconds = [model["gap"] for model in kept], [model["seconds"] for model in models]
    return [
        *notes,
        f"The gaps span {min(gaps):.3f} to {max(gaps):.3f}. Training took {np.mean(seconds):.1f} s per model, "
        f"{sum(seconds) / 60:.1f} min in all, one model per core.",
    ]


def draw(result: Result, figure: Any) -> None:
    """Each sharpness measure against the gap."""
    models = [model for model in result.values["models"] if model["reached"]]
    for axis, name in zip(figure.subplots(1, len(SHARPNESS), sharey=True), SHARPNESS, strict=True):
        for optimizer in dict.fromkeys(model["place"]["optimizer"] for model in models):
            mine = [m for m in models if m["place"]["optimizer"] == optimizer]
            axis.plot([m[name] for m in mine], [m["gap"] for m in mine], "o", markersize=3, alpha=0.6, label=optimizer)
        psi = result.values["coefficients"]["gap"][name]["psi"][0]
        axis.set_title(f"{name.replace('_', ' ')} sharpness\nPsi {psi:.2f}", fontsize=8)
        axis.set_xscale("log")
        axis.tick_params(which="both", labelsize=6)
    first = figure.axes[0]
    first.set_ylabel("generalisation gap", fontsize=8)
    first.legend(fontsize=7)
