"""Table 1: how measures of many models, trained alike but for their hyper-parameters, go with generalisation.

A full grid over optimiser, learning rate, weight decay, batch size, dropout and width, with several seeds. As in Jiang
et al. (arXiv 1912.02178) every model is trained until the same training loss, and those that do not get there are left
out and counted. Targets: the generalisation gap (training less test accuracy) and the test error.

The models of one seed share training samples and, at equal width, initialisation: they are not independent. So every
coefficient is taken within each seed, over its grid, and Student's interval is that of the mean over seeds.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.failures import RULE, note, settled
from benchmarks.experiments.measures import MEASURES, WORST_CASE_SAMPLES, measure_all
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, shown
from benchmarks.experiments.statistics import all_pairs, axis_pairs, concordance, granulated, over_seeds, spearman
from zkcert.errors import UnusableInput
from zkcert.metric import Probe
from zkcert.metric.worst_case import worst_case_sharpness

NAME = "table1"
TITLE = "Table 1: correlation with generalisation"
FIGURE_SIZE = (9.0, 2.8)

AXES = ("optimizer", "lr", "weight_decay", "batch_size", "dropout", "width")
READINGS = {
    "full-dataset SAM sharpness": ("static_sam", "static_sam_ascent"),
    "full-dataset ASAM sharpness": ("static_asam", "static_asam_ascent"),
    "worst-case sharpness": ("worst_case",),
}
"""What directional sharpness is to beat, and the ways to read it: each is represented by its better reading."""

RIVALS = tuple(name for readings in READINGS.values() for name in readings)
OWN = ("directional", "single")
BESIDE = ("log_loss", "train_loss")
"""Controls: nobody claims that directional sharpness beats them."""

COLUMNS = (*OWN, *RIVALS, *BESIDE)
NAMES = {**MEASURES, "single": "directional sharpness, draws taken singly (mean of their coefficients)"}
DRAWN = ("directional", "static_sam", "static_asam", "worst_case")
TARGETS = {"gap": "generalisation gap", "error": "test error"}
COEFFICIENTS = {"spearman": "Spearman's rho", "kendall": "Kendall's tau", "psi": "granulated Psi"}

FEWEST = 10
"""Models that have to be left of every seed for a verdict."""

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
    ),
    "small": Grid(
        "small",
        seeds=4,
        ours=_OURS,
        base=Recipe(samples=600, test_samples=5000, model="cnn", epochs=50, until_loss=0.1),
        lr={"sgd": (0.02,), "adam": (0.0015, 0.004)},
        weight_decay={"sgd": (0.0, 0.005), "adam": (0.0,)},
        batch_size=(16, 64),
        dropout=(0.0, 0.2),
        width=(8, 16),
        worst_case={"restarts": 1, "ascent_steps": 10, "bisections": 4},
    ),
    "paper": Grid(
        "paper",
        seeds=4,
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
    fewest = min(sum(model["place"]["seed"] == seed for model in kept) for seed in range(profile.seeds))
    coefficients = {target: correlations(kept, target) for target in TARGETS}
    return Result(
        name=NAME,
        title=TITLE,
        profile=profile.name,
        data=origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[
            *(_table(coefficients[target], target, len(kept)) for target in TARGETS),
            *(_by_seed(coefficients[target], target) for target in TARGETS),
            _left_out(models),
        ],
        claims=claims(coefficients, fewest, profile.draws),
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
        options = {"which": ("directional", "log_loss", *RIVALS), "worst_case": profile.worst_case}
        found |= measure_all(model.network(), (model.x, model.y), None, profile.probe, seeds, **options)
        found["draws"] = [found.pop(f"directional/{i}") for i in seeds]
        for i in seeds:
            del found[f"log_loss/{i}"]
    return found


def correlations(models: Sequence[Mapping[str, Any]], target: str) -> dict[str, Any]:
    """Every coefficient of each of COLUMNS with a target, within seeds and over them.

    By measure: each of COEFFICIENTS as `over_seeds` has it; "axes": the mean of psi_i over seeds, by axis; "greatest":
    the largest value of a model, not finite if one is not. Of all but OWN: "lead", by each of OWN, Psi of directional
    sharpness less theirs in the same seed, as `over_seeds`.
    """
    seeds = sorted({model["place"]["seed"] for model in models})
    by_seed = [_of_seed([model for model in models if model["place"]["seed"] == seed], target) for seed in seeds]
    found: dict[str, Any] = {}
    for name in COLUMNS:
        found[name] = {key: over_seeds([one[name][key] for one in by_seed]) for key in COEFFICIENTS}
        found[name]["axes"] = {axis: _mean_of_known([one[name][axis] for one in by_seed]) for axis in AXES}
        found[name]["greatest"] = float(np.max(_readings(models, name)))
    for rival in (*RIVALS, *BESIDE):
        found[rival]["lead"] = {
            own: over_seeds([one[own]["psi"] - one[rival]["psi"] for one in by_seed]) for own in OWN
        }
    return found


def _of_seed(models: Sequence[Mapping[str, Any]], target: str) -> dict[str, dict[str, float]]:
    """Each coefficient, and psi_i by axis, of each of COLUMNS over the models of one seed."""
    goal = np.array([model[target] for model in models], float)
    axes = {axis: axis_pairs([model["place"] for model in models], axis) for axis in AXES}
    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "spearman": lambda values: spearman(values, goal),
        "kendall": lambda values: concordance(values, goal, all_pairs(len(models))),
        "psi": lambda values: granulated(values, goal, axes),
        **{axis: partial(concordance, target=goal, pairs=pairs) for axis, pairs in axes.items()},
    }
    return {
        name: {
            key: float(np.mean([statistic(values) for values in _readings(models, name)]))
            for key, statistic in statistics.items()
        }
        for name in COLUMNS
    }


def _readings(models: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The measure of each model [readings, models]: one reading, but one per draw of "single"."""
    if name == "single":
        return np.array([model["draws"] for model in models], float).T
    return np.array([[model[name] for model in models]], float)


def _mean_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def claims(coefficients: Mapping[str, Mapping[str, Any]], fewest: int, draws: int) -> list[Claim]:
    """The verdicts, from the coefficients by target; of every seed at least `fewest` models are left."""
    found = []
    for target, title in TARGETS.items():
        for own, reading in (("directional", f"mean over {draws} draws"), ("single", "a single draw")):
            for key in ("kendall", "psi"):
                found.append(_ranks(coefficients[target][own], key, title, reading, fewest))
            found.append(_leads(coefficients[target], own, title, reading, fewest))
    return found


def _ranks(entry: Mapping[str, Any], key: str, target: str, reading: str, fewest: int) -> Claim:
    what, value = COEFFICIENTS[key], entry[key]
    verdict = INCONCLUSIVE
    if fewest >= FEWEST:
        if value["high"] < NEGLIGIBLE:
            verdict = NOT_REPRODUCED
        elif value["low"] > 0 and value["mean"] >= NEGLIGIBLE:
            verdict = REPRODUCED
    rule = (
        f"not reproduced if Student's 95 % interval for the mean of {what} over seeds lies below {NEGLIGIBLE}; "
        f"reproduced if it lies above 0 and the mean is at least {NEGLIGIBLE}; otherwise, or with fewer than {FEWEST} "
        f"models left of a seed, inconclusive; {RULE}"
    )
    claim = f"Directional sharpness ({reading}) ranks models as their {target} does ({what})"
    return Claim(claim, settled(verdict, entry["greatest"]), f"{what} {_interval(value)}, {_seeds(value)}", rule)


def _leads(coefficients: Mapping[str, Any], own: str, target: str, reading: str, fewest: int) -> Claim:
    better = [max(names, key=lambda name: coefficients[name]["psi"]["mean"]) for names in READINGS.values()]
    leads = {name: coefficients[name]["lead"][own] for name in better}
    verdict = INCONCLUSIVE
    if fewest >= FEWEST:
        if all(lead["low"] > 0 for lead in leads.values()):
            verdict = REPRODUCED
        elif any(lead["high"] < 0 for lead in leads.values()):
            verdict = NOT_REPRODUCED
    numbers = "lead over " + "; ".join(f"{NAMES[name]} {_interval(lead)}" for name, lead in leads.items())
    rule = (
        "reproduced if, against each of the three, Student's 95 % interval for the mean over seeds of the difference "
        "of Psi lies above 0; not reproduced if against one it lies below 0; otherwise, or with fewer than "
        f"{FEWEST} models left of a seed, inconclusive; of SAM and ASAM sharpness the reading with the higher mean Psi "
        f"counts; {RULE}"
    )
    claim = (
        f"Directional sharpness ({reading}) ranks models as their {target} does better than {', '.join(READINGS)} do "
        "(granulated Psi)"
    )
    verdict = settled(verdict, coefficients[own]["greatest"], [coefficients[name]["greatest"] for name in better])
    return Claim(claim, verdict, numbers, rule)


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _seeds(value: Mapping[str, Any]) -> str:
    return "by seed " + ", ".join(f"{one:.2f}" for one in value["seeds"])


def _table(coefficients: Mapping[str, Any], target: str, count: int) -> Table:
    rows = []
    for name in COLUMNS:
        entry = coefficients[name]
        leads = [None if name in OWN else _interval(entry["lead"][own]) for own in OWN]
        by_axis = (_two_digits(entry["axes"][axis]) for axis in AXES)
        rows.append([NAMES[name], *(_interval(entry[key]) for key in COEFFICIENTS), *leads, *by_axis])
    title = (
        f"Correlation with the {TARGETS[target]} over {count} models: means over seeds of the coefficients within a "
        "seed, Student's 95 % intervals in brackets; the lead in Psi of directional sharpness (mean over draws, single "
        "draw) over the row's measure; psi by axis"
    )
    columns = ["measure", "Spearman", "Kendall", "Psi", "lead", "lead, single draw"]
    return Table(title, [*columns, *(axis.replace("_", " ") for axis in AXES)], rows)


def _by_seed(coefficients: Mapping[str, Any], target: str) -> Table:
    rows = []
    for name in COLUMNS:
        pairs = zip(coefficients[name]["kendall"]["seeds"], coefficients[name]["psi"]["seeds"], strict=True)
        rows.append([NAMES[name], *(f"{tau:.2f} / {psi:.2f}" for tau, psi in pairs)])
    count = len(coefficients["directional"]["psi"]["seeds"])
    return Table(
        f"Kendall's tau / Psi with the {TARGETS[target]}, seed by seed, of those of which models are left",
        ["measure", *(f"seed {k + 1}" for k in range(count))],
        rows,
    )


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
        "Tau and Psi are those of Jiang et al. (arXiv 1912.02178), ties counting as 0. The claims are worded by us. An "
        "interval for equal values is infinitely wide, for they do not tell the spread.",
    ]
    probe, samples = profile.probe, base.samples or "all"
    defaults = {
        name: value.default
        for name, value in inspect.signature(worst_case_sharpness).parameters.items()
        if name in profile.worst_case
    }
    if reduced := ", ".join(f"{name} {profile.worst_case[name]} for {value}" for name, value in defaults.items()):
        notes.append(
            f"Worst-case sharpness has a smaller budget than the toolkit's default ({reduced}), on at most "
            f"{WORST_CASE_SAMPLES} samples; with more it might do better."
        )
    notes.append(
        f"Probe: T = {probe.steps}, B = {probe.batch_size}, {probe.variant}. An audit or a proof takes a single draw, "
        f"which reads {probe.steps * probe.batch_size} samples; {profile.draws} draws read "
        f"{profile.draws * probe.steps * probe.batch_size}, with repetitions, of {samples} training samples."
    )
    gaps, seconds = [model["gap"] for model in kept], [model["seconds"] for model in models]
    optimizers = dict.fromkeys(model["place"]["optimizer"] for model in kept)
    draws = {name: [m["draws"] for m in kept if m["place"]["optimizer"] == name] for name in optimizers}
    return [
        *notes,
        note(draws),
        f"The gaps span {min(gaps):.3f} to {max(gaps):.3f}. Training took {np.mean(seconds):.1f} s per model, "
        f"{sum(seconds) / 60:.1f} min in all, one model per core.",
    ]


def draw(result: Result, figure: Any) -> None:
    """Sharpness measures against the gap."""
    models = [model for model in result.values["models"] if model["reached"]]
    for axis, name in zip(figure.subplots(1, len(DRAWN), sharey=True), DRAWN, strict=True):
        for optimizer in dict.fromkeys(model["place"]["optimizer"] for model in models):
            mine = [m for m in models if m["place"]["optimizer"] == optimizer]
            axis.plot([m[name] for m in mine], [m["gap"] for m in mine], "o", markersize=3, alpha=0.6, label=optimizer)
        psi = result.values["coefficients"]["gap"][name]["psi"]["mean"]
        axis.set_title(f"{name.replace('_', ' ')} sharpness\nPsi {psi:.2f}", fontsize=8)
        axis.set_xscale("log")
        axis.tick_params(which="both", labelsize=6)
    first = figure.axes[0]
    first.set_ylabel("generalisation gap", fontsize=8)
    first.legend(fontsize=7)
