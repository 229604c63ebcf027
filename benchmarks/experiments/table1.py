"""Table 1 and the correlations of Table 3: measures of many models, and their generalisation gap.

A full grid over optimiser (SGD, Adam, SAM, ASAM), learning rate, weight decay, batch size, dropout and network, with
several seeds. As in section 4.5 of the paper (after Jiang et al., arXiv 1912.02178) every model is trained to the same
training loss, estimated on 100 mini-batches, and those that do not get there are left out and counted. The gap is test
loss minus training loss; measures are taken on the training set, which is clean.

The models of one seed share training samples and, at equal networks, initialisation: they are not independent. So every
coefficient is taken within each seed, over its grid, and Student's interval is that of the mean over seeds. Claims and
rules: docs/results/claims.toml.
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

from benchmarks.experiments.claims import judged
from benchmarks.experiments.common import CLAIMS_FIRST, Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.failures import note, settled
from benchmarks.experiments.measures import DRAWN, MEASURES, RAW, WORST_CASE_SAMPLES, drawn, measure_all
from benchmarks.experiments.pairs import measured_at, remembered
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, shown
from benchmarks.experiments.statistics import all_pairs, axis_pairs, concordance, granulated, over_seeds, spearman
from zkcert.errors import UnusableInput
from zkcert.metric import Probe
from zkcert.metric.worst_case import worst_case_sharpness
from zkcert.public.defaults import PAPER_AUDIT, PAPER_DEFAULT

NAME = "table1"
TITLE = "Table 1: correlation with the generalisation gap"
FIGURE_SIZE = (9.0, 3.2)

AXES = ("optimizer", "lr", "weight_decay", "batch_size", "dropout", "network")
PROBES = {
    "default": Probe.of_config(PAPER_DEFAULT),
    "B = 8": Probe(batch_size=8),
    "B = 32": Probe(batch_size=32),
    "audit": Probe.of_config(PAPER_AUDIT),
}
"""Of every model: the paper's default, columns for other B, and its audit (B = 8, T = 5)."""

DEFAULT, AUDIT = "default", "audit"
WHOLE = {
    "static_asam": "static ASAM sharpness, first order",
    "worst_case": "worst-case sharpness (Jiang et al.)",
    "static_sam": "static SAM sharpness, first order",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy, negated",
}
"""Measures that are not drawn; the first two are the paper's baselines."""

TARGETS = {"gap": "generalisation gap (test loss minus training loss)", "error": "test error"}
"""The first is the paper's, and all claims are about it; the second is shown, for it is no target of the paper."""

COEFFICIENTS = {"spearman": "Spearman's rho", "kendall": "Kendall's tau", "psi": "granulated Psi"}

FEWEST = 10
"""Models that have to be left of every seed for a verdict."""

NEGLIGIBLE = 0.1
"""A coefficient below this is no correlation worth the name."""


def column(statistic: str, probe: str = DEFAULT) -> str:
    """The name of a statistic of `measures.DRAWN` of one of PROBES."""
    return f"{statistic} @ {probe}"


DRAWN_COLUMNS = tuple(column(statistic, probe) for probe in PROBES for statistic in DRAWN)
COLUMNS = (*DRAWN_COLUMNS, *WHOLE)
OURS, AUDITED = column("directional"), column("directional", AUDIT)


def title_of(name: str) -> str:
    """For people; the sizes are those of PROBES."""
    statistic, _, probe = name.partition(" @ ")
    if not probe:
        return WHOLE[name]
    p = PROBES[probe]
    return f"{MEASURES[statistic]}, B = {p.batch_size}, T = {p.steps}"


@dataclass(frozen=True)
class Grid(Profile):
    """Levels of each axis; learning rate and weight decay have levels per optimiser, for their scales differ.

    networks  recipes that differ in dataset, model and width; all else is `base`'s.
    probes    by the names of PROBES, which tables call by their sizes there.
    """

    base: Recipe = field(default_factory=Recipe)
    lr: Mapping[str, Sequence[float]] = field(default_factory=dict)
    weight_decay: Mapping[str, Sequence[float]] = field(default_factory=dict)
    batch_size: Sequence[int] = ()
    dropout: Sequence[float] = ()
    networks: Sequence[Recipe] = ()
    draws: int = 10
    probes: Mapping[str, Probe] = field(default_factory=lambda: PROBES)
    worst_case: Mapping[str, Any] = field(default_factory=dict)

    def runs(self) -> list[tuple[dict[str, Any], Recipe]]:
        """Each model's place in the grid, as levels by axis and the seed, and its recipe."""
        found = []
        for seed, optimizer in itertools.product(self.numbers, self.lr):
            levels = (self.lr[optimizer], self.weight_decay[optimizer], self.batch_size, self.dropout, self.networks)
            for place in itertools.product(*(range(len(level)) for level in levels)):
                lr, decay, batch_size, dropout, network = (level[i] for level, i in zip(levels, place, strict=True))
                recipe = self.base.but(
                    optimizer=optimizer,
                    lr=lr,
                    weight_decay=decay,
                    batch_size=batch_size,
                    dropout=dropout,
                    dataset=network.dataset,
                    model=network.model,
                    width=network.width,
                    seed=seed,
                    data_seed=seed,
                )
                # levels of rate and decay are numbered, so that slices along the optimiser pair them up
                place_of = {"optimizer": optimizer, **dict(zip(AXES[1:], place, strict=True)), "seed": seed}
                found.append((place_of, recipe))
        return found


_OURS = (
    "number of draws, the budget of worst-case sharpness, where dropout sits, momentum, that the loss is looked at "
    "after each epoch"
)
_SMALL = "; networks, data, grid and a stopping loss of 0.1 for 0.01"
_RATES, _DECAYS = (0.1, 0.032, 0.01, 0.05), (0.0001, 0.00005)
PROFILES: dict[str, Grid] = {
    "tiny": Grid(
        "tiny",
        seeds=2,
        ours=_OURS + _SMALL,
        first=CLAIMS_FIRST,
        base=Recipe(dataset="shipped", samples=100, test_samples=100, epochs=6, until_loss=1.5, until_batches=4),
        lr={"sgd": (0.02, 0.05), "asam": (0.02,)},
        weight_decay={"sgd": (0.0,), "asam": (0.0,)},
        batch_size=(16,),
        dropout=(0.0, 0.2),
        networks=(Recipe(dataset="shipped", width=2),),
        draws=2,
        probes={name: Probe(steps=3, batch_size=4 + i) for i, name in enumerate(PROBES)},
        worst_case={"restarts": 1, "ascent_steps": 2, "bisections": 1},
    ),
    "small": Grid(
        "small",
        seeds=5,
        ours=_OURS + _SMALL,
        first=CLAIMS_FIRST,
        base=Recipe(samples=600, test_samples=5000, epochs=50, until_loss=0.1, until_batches=100),
        lr={"sgd": (0.02,), "adam": (0.0015, 0.004), "sam": (0.02,), "asam": (0.01, 0.02)},
        weight_decay={"sgd": (0.0, 0.005), "adam": (0.0,), "sam": (0.0, 0.005), "asam": (0.0,)},
        batch_size=(16, 64),
        dropout=(0.0, 0.2),
        networks=(Recipe(width=8), Recipe(width=16)),
        worst_case={"restarts": 1, "ascent_steps": 10, "bisections": 4},
    ),
    "paper": Grid(
        "paper",
        seeds=5,
        ours=_OURS + "; the paper has one model of each place of the grid, which are 1,152: --seeds 1",
        first=CLAIMS_FIRST,
        base=Recipe(dataset="cifar", epochs=200, until_loss=0.01, until_batches=100),
        lr={"sgd": _RATES, "adam": (0.001, 0.0005, 0.00032, 0.0001), "sam": _RATES, "asam": _RATES},
        weight_decay=dict.fromkeys(("sgd", "adam", "sam", "asam"), _DECAYS),
        batch_size=(32, 64, 128),
        dropout=(0.0, 0.25, 0.5),
        networks=(
            *(Recipe(dataset="cifar", model=name) for name in ("vgg13_bn", "vgg16_bn", "vgg19_bn")),
            Recipe(dataset="cifar100", model="wrn28_10"),
        ),
    ),
}


def run(profile: Grid, context: Context) -> Result:
    """Train the grid, measure every model, correlate."""
    runs = profile.runs()
    origin = "; ".join(dict.fromkeys(load_data(n.dataset, context).origin for n in profile.networks))
    found = run_grid(partial(_measured, profile), [recipe for _, recipe in runs], context, TITLE)
    models = [{"place": place, **values} for (place, _), values in zip(runs, found, strict=True)]
    kept = [model for model in models if model["reached"]]
    if len(kept) < 2:
        raise UnusableInput(
            f"{len(kept)} of {len(models)} models reached the loss of {profile.base.until_loss}: nothing to correlate"
        )
    fewest = min(sum(model["place"]["seed"] == seed for model in kept) for seed in profile.numbers)
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
            _by_seed(coefficients["gap"], "gap"),
            _left_out(models),
        ],
        claims=claims(coefficients["gap"], fewest),
        notes=_notes(profile, models, kept),
        values={"models": models, "coefficients": coefficients},
    )


def _measured(profile: Grid, recipe: Recipe, context: Context) -> dict[str, Any]:
    """What is known of one model, from the cache if it is there; its measures only if it reached the common loss."""
    looks = (tuple(profile.probes.items()), profile.draws, tuple(sorted(profile.worst_case.items())))
    path = measured_at("grid", recipe, context, looks)
    return remembered(path, context, lambda: _measure(profile, recipe, context))


def _measure(profile: Grid, recipe: Recipe, context: Context) -> dict[str, Any]:
    model = train_model(recipe, context)
    found: dict[str, Any] = {
        "reached": model.reached,
        "epochs": model.epochs,
        "seconds": model.seconds,
        "train_accuracy": model.train_accuracy,
        "gap": model.gap,
        "error": 1 - model.test_accuracy,
        "train_loss": model.train_loss,
        "test_accuracy": -model.test_accuracy,
    }
    if model.reached:
        train, network = (model.x, model.y), model.network()
        which = ("static_asam", "worst_case", "static_sam")
        options = {"which": which, "worst_case": profile.worst_case}
        found |= measure_all(network, train, None, profile.probes[DEFAULT], (), **options)
        for name, probe in profile.probes.items():
            draws = drawn(network, *train, probe, range(profile.draws))
            found |= {column(statistic, name): values.tolist() for statistic, values in draws.items()}
    return found


Models = Sequence[Mapping[str, Any]]


def correlations(models: Models, target: str) -> dict[str, Any]:
    """Every coefficient of each of COLUMNS with a target, within seeds and over them.

    By measure: each of COEFFICIENTS as `over_seeds` has it, of the mean over draws; "single": the same of single draws,
    the mean of their coefficients, of those that are drawn; "axes": the mean of psi_i over seeds, by axis; "greatest":
    the largest value of a model, not finite if one is not.
    """
    seeds = sorted({model["place"]["seed"] for model in models})
    groups = [[model for model in models if model["place"]["seed"] == seed] for seed in seeds]
    statistics = [_statistics(group, target) for group in groups]
    found: dict[str, Any] = {}
    for name in COLUMNS:
        drawn_values = [readings(group, name) for group in groups]
        means = [values.mean(0) for values in drawn_values]
        entry: dict[str, Any] = {
            key: over_seeds([s[key](mean) for s, mean in zip(statistics, means, strict=True)]) for key in COEFFICIENTS
        }
        if name in DRAWN_COLUMNS:
            entry["single"] = {
                key: over_seeds(
                    [
                        float(np.mean([s[key](draw) for draw in values]))
                        for s, values in zip(statistics, drawn_values, strict=True)
                    ]
                )
                for key in COEFFICIENTS
            }
        entry["axes"] = {
            axis: _mean_of_known([s[axis](mean) for s, mean in zip(statistics, means, strict=True)]) for axis in AXES
        }
        entry["greatest"] = float(max(np.max(values) for values in drawn_values))
        found[name] = entry
    return found


def _statistics(models: Models, target: str) -> dict[str, Callable[[np.ndarray], float]]:
    """Each coefficient, and psi_i by axis, as functions of a measure of the models of one seed."""
    goal = np.array([model[target] for model in models], float)
    axes = {axis: axis_pairs([model["place"] for model in models], axis) for axis in AXES}
    return {
        "spearman": lambda values: spearman(values, goal),
        "kendall": lambda values: concordance(values, goal, all_pairs(len(models))),
        "psi": lambda values: granulated(values, goal, axes),
        **{axis: partial(concordance, target=goal, pairs=pairs) for axis, pairs in axes.items()},
    }


def readings(models: Models, name: str) -> np.ndarray:
    """The measure of each model [draws, models]; one draw of what is not drawn."""
    values = np.array([model[name] for model in models], float)
    return values.T if values.ndim == 2 else values[None]


def _mean_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def lead(first: Mapping[str, Any], second: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A coefficient of one measure less that of another, seed by seed."""
    return over_seeds([a - b for a, b in zip(first[key]["seeds"], second[key]["seeds"], strict=True)])


# --------------------------------------------------------------------------------------------------- verdicts


def claims(coefficients: Mapping[str, Any], fewest: int) -> list[Claim]:
    """The verdicts, from the coefficients with the gap; of every seed at least `fewest` models are left."""
    ours, audited = coefficients[OURS], coefficients[AUDITED]["single"]
    enough = fewest >= FEWEST

    def open_or(verdict: str, *names: str) -> str:
        greatest = [coefficients[name]["greatest"] for name in names]
        return settled(verdict if enough else INCONCLUSIVE, greatest)

    found = [
        judged("t1-kendall", open_or(ranks(ours["kendall"]), OURS), _told(ours["kendall"])),
        judged("t1-single", open_or(ranks(ours["single"]["kendall"]), OURS), _told(ours["single"]["kendall"])),
    ]
    for name, rival in (("t1-asam", "static_asam"), ("t1-worst", "worst_case")):
        leads = {key: lead(ours, coefficients[rival], key) for key in COEFFICIENTS}
        told = "; ".join(
            f"{COEFFICIENTS[key]} {ours[key]['mean']:.2f} against {coefficients[rival][key]['mean']:.2f}, lead "
            f"{_interval(value)}"
            for key, value in leads.items()
        )
        found.append(judged(name, open_or(leads_all(list(leads.values())), OURS, rival), told))
    raw = max((column(statistic) for statistic in RAW), key=lambda name: coefficients[name]["kendall"]["mean"])
    value = lead(ours, coefficients[raw], "kendall")
    told = f"lead in Kendall's tau over {title_of(raw)}: {_interval(value)}"
    found.append(judged("t1-raw", open_or(leads_all([value]), OURS, raw), told))
    leads = {
        name: lead(audited, coefficients[name], "kendall") for name in ("static_asam", "worst_case", "test_accuracy")
    }
    told = "; ".join(f"over {WHOLE[name]} {_interval(value)}" for name, value in leads.items())
    told = f"Kendall's tau of a draw {_told(audited['kendall'])}; lead {told}"
    return [*found, judged("t3-kendall", open_or(leads_all(list(leads.values())), AUDITED, *leads), told)]


def ranks(value: Mapping[str, Any]) -> str:
    """t1-kendall: whether a coefficient is clearly positive."""
    if value["high"] < NEGLIGIBLE:
        return NOT_REPRODUCED
    return REPRODUCED if value["low"] > 0 and value["mean"] >= NEGLIGIBLE else INCONCLUSIVE


def leads_all(leads: Sequence[Mapping[str, Any]]) -> str:
    """t1-asam and the like: whether all leads are clearly positive; that one is clearly negative refutes it."""
    if any(value["high"] < 0 for value in leads):
        return NOT_REPRODUCED
    return REPRODUCED if all(value["low"] > 0 for value in leads) else INCONCLUSIVE


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _told(value: Mapping[str, Any]) -> str:
    return f"{_interval(value)}, by seed " + ", ".join(f"{one:.2f}" for one in value["seeds"])


# ----------------------------------------------------------------------------------------------------- tables


def _table(coefficients: Mapping[str, Any], target: str, count: int) -> Table:
    rows = []
    for name in COLUMNS:
        entry = coefficients[name]
        single = [_interval(entry["single"][key]) if "single" in entry else None for key in ("kendall", "psi")]
        ahead = None if name == OURS else _interval(lead(coefficients[OURS], entry, "kendall"))
        by_axis = (_two_digits(entry["axes"][axis]) for axis in AXES)
        rows.append([title_of(name), *(_interval(entry[key]) for key in COEFFICIENTS), *single, ahead, *by_axis])
    title = (
        f"Correlation with the {TARGETS[target]} over {count} models: means over seeds of the coefficients within a "
        "seed, of the mean over draws and of single draws, Student's 95 % intervals in brackets; the lead in tau of "
        "directional sharpness (default, mean over draws) over the row's measure; psi by axis"
    )
    columns = ["measure", "Spearman", "Kendall", "Psi", "Kendall, single draw", "Psi, single draw", "lead"]
    return Table(title, [*columns, *(axis.replace("_", " ") for axis in AXES)], rows)


def _by_seed(coefficients: Mapping[str, Any], target: str) -> Table:
    rows = []
    for name in COLUMNS:
        pairs = zip(coefficients[name]["kendall"]["seeds"], coefficients[name]["psi"]["seeds"], strict=True)
        rows.append([title_of(name), *(f"{tau:.2f} / {psi:.2f}" for tau, psi in pairs)])
    count = len(coefficients[OURS]["psi"]["seeds"])
    return Table(
        f"Kendall's tau / Psi with the {TARGETS[target]}, seed by seed, of those of which models are left",
        ["measure", *(f"seed {k + 1}" for k in range(count))],
        rows,
    )


def _two_digits(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _left_out(models: Models) -> Table:
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


def _notes(profile: Grid, models: Models, kept: Models) -> list[str]:
    base, axes = profile.base, ("lr", "weight_decay", "batch_size", "dropout")
    levels = {axis.replace("_", " "): getattr(profile, axis) for axis in axes}
    grid = "; ".join(f"{name} {dict(v) if isinstance(v, Mapping) else tuple(v)}" for name, v in levels.items())
    networks = ", ".join(
        f"{n.model}{f' of width {n.width}' if n.width else ''} ({n.dataset})" for n in profile.networks
    )
    notes = [
        f"Grid: optimiser {tuple(profile.lr)}; {grid}; network {networks}. {base.samples or 'All'} training samples; "
        f"trained to a loss of {base.until_loss} on {base.until_batches} mini-batches, at most {base.epochs} epochs.",
        "Tau and Psi are those of Jiang et al. (arXiv 1912.02178), ties counting as 0. An interval for equal values is "
        "infinitely wide, for they do not tell the spread.",
    ]
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
    probe = profile.probes[DEFAULT]
    notes.append(
        f"An audit or a proof takes a single draw, which reads {probe.steps * probe.batch_size} samples at the "
        f"default; {profile.draws} draws read {profile.draws * probe.steps * probe.batch_size}, with repetitions, of "
        f"{base.samples or 'all'} training samples."
    )
    gaps, seconds = [model["gap"] for model in kept], [model["seconds"] for model in models]
    optimizers = dict.fromkeys(model["place"]["optimizer"] for model in kept)
    draws = {name: [m[OURS] for m in kept if m["place"]["optimizer"] == name] for name in optimizers}
    return [
        *notes,
        note(draws),
        f"The gaps span {min(gaps):.3f} to {max(gaps):.3f}. Training took {np.mean(seconds):.1f} s per model, "
        f"{sum(seconds) / 60:.1f} min in all, one model per core.",
    ]


def draw(result: Result, figure: Any) -> None:
    """Kendall's tau with the gap of the paper's measures: one message, which goes with it most closely."""
    coefficients = result.values["coefficients"]["gap"]
    rows = [
        ("directional sharpness, mean of the draws", coefficients[OURS]["kendall"]),
        ("directional sharpness, a single draw", coefficients[OURS]["single"]["kendall"]),
        *((MEASURES[name], coefficients[column(name)]["kendall"]) for name in (*RAW, "log_loss", "mean_loss")),
        *((WHOLE[name], coefficients[name]["kendall"]) for name in ("static_asam", "worst_case", "train_loss")),
    ]
    axis = figure.subplots()
    for place, (_, value) in enumerate(rows):
        colour = "black" if place < 2 else "0.5"
        if math.isfinite(value["low"]):
            axis.plot([value["low"], value["high"]], [place] * 2, color=colour)
        axis.plot(value["mean"], place, "o", color=colour)
    axis.axvline(0, color="0.8", zorder=0)
    axis.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("Kendall's tau with the generalisation gap, mean over seeds and 95 % interval")
