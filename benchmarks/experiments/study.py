"""Which statistic of a probe carries the signal? Statistic x B x T x defect, on the same draws.

The plan, with how a configuration is chosen and on which seeds it is judged, is the [study] of
docs/results/claims.toml. A configuration's worth is its smallest AUC, over single draws, over the defects. The best is
chosen on the first half of the seeds and reported on the second only, beside the paper's default and what needs no
gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from benchmarks.experiments.common import CLAIMS_FIRST, Context, Profile, load_data, run_grid
from benchmarks.experiments.failures import settled
from benchmarks.experiments.measures import DRAWN, MEASURES, RAW
from benchmarks.experiments.pairs import Models, Setting, Sweep, Swept, statistic, sweep
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table
from benchmarks.experiments.separation import auc, between, jackknife
from benchmarks.experiments.table2 import PROFILES as TABLE2
from zkcert.errors import UnusableInput

FIGURE_SIZE = (9.0, 4.6)
WANTED = 0.95
"""The AUC that a mean of enough draws should have for every defect."""

STATISTICS = ("directional", *RAW)
"""What can be advised; the other two of DRAWN are controls, which need no gradient."""

Configuration = tuple[str, int, int]
"""A statistic, B and T."""


@dataclass(frozen=True, kw_only=True)
class Study(Profile):
    """Settings as of Table 2; steps: the lengths T of probes, the last one that of the sweep."""

    settings: tuple[Setting, ...]
    sweep: Sweep
    steps: tuple[int, ...]
    default: Configuration = ("directional", 16, 10)

    def configurations(self) -> list[Configuration]:
        """Those that can be advised."""
        return list(product(STATISTICS, self.sweep.batches, self.steps))


def _four(profile: str) -> tuple[Setting, ...]:
    return tuple(s for s in TABLE2[profile].settings if s.evidence != "small test")


_OURS = "everything but the settings, which are Table 2's"
PROFILES = {
    "tiny": Study(
        name="tiny",
        seeds=4,
        ours=_OURS,
        settings=_four("tiny"),
        sweep=Sweep((2, 4), 4, 3),
        steps=(2, 4),
        default=("directional", 4, 4),
        first=CLAIMS_FIRST,
    ),
    "small": Study(
        name="small",
        seeds=10,
        ours=_OURS,
        settings=_four("small"),
        sweep=Sweep(),
        steps=(5, 10, 20),
        first=CLAIMS_FIRST,
    ),
    "paper": Study(
        name="paper",
        seeds=10,
        ours=_OURS,
        settings=_four("paper"),
        sweep=Sweep(),
        steps=(5, 10, 20),
        first=CLAIMS_FIRST,
    ),
}

Pair = tuple[Models, Models]


def values(models: Models, configuration: Configuration) -> np.ndarray:
    """[seeds, draws]."""
    name, size, steps = configuration
    return np.array([statistic(m, name, size, steps) for m in models])


def areas(pair: Pair, configuration: Configuration) -> np.ndarray:
    """The AUC over single draws of every benign model against every faulty one, [seeds, seeds]."""
    a, b = (values(models, configuration) for models in pair)
    return np.array([[auc(x, y) for y in b] for x in a])


def worth(pairs: Sequence[Pair], configuration: Configuration) -> float:
    """The smallest AUC over the defects."""
    return min(float(areas(pair, configuration).mean()) for pair in pairs)


def half(pairs: Sequence[Pair], second: bool) -> list[Pair]:
    """The models of the first half of the seeds, or of the second."""
    middle = len(pairs[0][0]) // 2
    part = slice(middle, None) if second else slice(None, middle)
    return [(a[part], b[part]) for a, b in pairs]


def lead(pairs: Sequence[Pair], ours: Configuration, other: Configuration) -> tuple[float, float, float]:
    """The smallest AUC of one configuration less that of another, with its 95 % interval by leaving out seeds.

    Each has the defect at which it is worst on all of these seeds.
    """
    worst = [min((areas(pair, c) for pair in pairs), key=lambda grid: float(grid.mean())) for c in (ours, other)]
    difference = worst[0] - worst[1]
    return float(difference.mean()), *jackknife(difference)


def draws_needed(pairs: Sequence[Pair], configuration: Configuration, wanted: float = WANTED) -> int | None:
    """The least k at which means of k draws have such an AUC for every defect; None if no k has, of those drawn.

    The draws of a model are taken k at a time, in order, without overlap.
    """
    drawn = [tuple(values(models, configuration) for models in pair) for pair in pairs]
    for k in range(1, drawn[0][0].shape[1] + 1):
        means = [tuple(v[:, : v.shape[1] // k * k].reshape(len(v), -1, k).mean(2) for v in pair) for pair in drawn]
        if all(auc(a, b) >= wanted for a, b in means):
            return k
    return None


def run(profile: Study, context: Context) -> Result:
    """Train the models, take all draws, choose on one half of the seeds and judge on the other."""
    if profile.seeds < 4:
        raise UnusableInput("the study needs 4 seeds or more: it chooses on one half of them and judges on the other")
    recipes = dict.fromkeys(recipe for s in profile.settings for recipe in (s.benign, s.faulty))
    items = [Swept(r.but(seed=seed, data_seed=seed), profile.sweep) for r in recipes for seed in profile.numbers]
    found, count = run_grid(sweep, items, context, "study"), profile.seeds
    models = {recipe: found[i * count : (i + 1) * count] for i, recipe in enumerate(recipes)}
    titles = [s.title for s in profile.settings]
    pairs = [(models[s.benign], models[s.faulty]) for s in profile.settings]
    chosen = max(profile.configurations(), key=lambda c: worth(half(pairs, second=False), c))
    rows = worths(profile, pairs)
    short = sum(not m["reached"] for models in pairs for side in models for m in side)
    return Result(
        name="study",
        title="Study: which statistic carries the signal",
        profile=profile.name,
        data="; ".join(dict.fromkeys(load_data(s.benign.dataset, context).origin for s in profile.settings)),
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[
            _every(rows, titles),
            _static(pairs, titles),
            _advice(profile, pairs, chosen),
        ],
        claims=[advice(profile, pairs, chosen, short)],
        notes=[
            f"{profile.sweep.draws} draws of every model and B, of {profile.sweep.steps} steps, of which shorter "
            "probes are the beginnings; the clean training set; float64. The choice was made on the first "
            f"{profile.seeds // 2} seeds, what is said of it is of the other {profile.seeds - profile.seeds // 2}. "
            f"{short} models were short of their training.",
        ],
        values={
            "made": min(m["made"] for m in found),
            "rows": rows,
            "titles": titles,
            "chosen": list(chosen),
            "default": list(profile.default),
        },
    )


def worths(profile: Study, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Of every statistic (the controls, too), B and T: the AUC of a single draw and the ratio of the means by defect,
    on all seeds; JSON values."""
    rows = []
    for configuration in product(DRAWN, profile.sweep.batches, profile.steps):
        drawn = [tuple(values(models, configuration) for models in pair) for pair in pairs]
        rows.append(
            {
                "statistic": configuration[0],
                "B": configuration[1],
                "T": configuration[2],
                "auc": [float(areas(pair, configuration).mean()) for pair in pairs],
                "ratio": [float(a.mean() / b.mean()) for a, b in drawn],
            }
        )
    return rows


def advice(profile: Study, pairs: Sequence[Pair], chosen: Configuration, short: int) -> Claim:
    """Whether another configuration than the paper's default is worth more, by the seeds it was not chosen on."""
    second = half(pairs, second=True)
    mean, low, high = lead(second, chosen, profile.default)
    verdict = REPRODUCED if low > 0 else NOT_REPRODUCED if high <= 0 else INCONCLUSIVE
    text = (
        f"Another configuration than the paper's default tells these defects better: {name_of(chosen)}, chosen on the "
        "first half of the seeds"
    )
    numbers = (
        f"smallest AUC of a single draw on the other seeds {worth(second, chosen):.2f} against "
        f"{worth(second, profile.default):.2f} of the default; difference {mean:.2f} {between(low, high, 2)}"
    )
    rule = (
        "reproduced if the 95 % interval (jackknife over the second half of the seeds) of the difference of the "
        "smallest AUCs over the defects lies above 0; not reproduced if it ends at 0 or below; inconclusive otherwise, "
        "and where models did not get as far as they were to be trained"
    )
    return Claim(text, settled(INCONCLUSIVE if short else verdict, mean), numbers, rule)


def name_of(configuration: Configuration) -> str:
    """For people."""
    name, size, steps = configuration
    return f"{MEASURES[name]}, B = {size}, T = {steps}"


def _every(rows: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> Table:
    cells = [
        [
            MEASURES[row["statistic"]],
            row["B"],
            row["T"],
            *(f"{area:.2f} ({ratio:.2f})" for area, ratio in zip(row["auc"], row["ratio"], strict=True)),
            f"{min(row['auc']):.2f}",
        ]
        for row in rows
    ]
    title = "AUC of a single draw, and in brackets the benign/faulty ratio of the means, on all seeds"
    return Table(title, ["statistic", "B", "T", *titles, "smallest AUC"], cells)


def _static(pairs: Sequence[Pair], titles: Sequence[str]) -> Table:
    rows = []
    for name, label in (("static_asam", "static ASAM"), ("static_sam", "static SAM"), ("train_loss", "training loss")):
        sides = [tuple(np.array([m[name] for m in models]) for models in pair) for pair in pairs]
        rows.append([label, *(f"{auc(a, b):.2f} ({a.mean() / b.mean():.2f})" for a, b in sides)])
    return Table(
        "The same of measures of the whole clean training set, which are not drawn", ["measure", *titles], rows
    )


def _advice(profile: Study, pairs: Sequence[Pair], chosen: Configuration) -> Table:
    first, second = half(pairs, second=False), half(pairs, second=True)
    controls = [
        max(product((name,), profile.sweep.batches, profile.steps), key=lambda c: worth(first, c))
        for name in ("log_loss", "mean_loss")
    ]
    rows = []
    for what, c in (
        ("chosen", chosen),
        ("the paper's default", profile.default),
        *(("no gradient", c) for c in controls),
    ):
        needed = draws_needed(second, c)
        said = "none of those drawn" if needed is None else needed
        rows.append([what, name_of(c), f"{worth(first, c):.2f}", f"{worth(second, c):.2f}", said])
    columns = ["", "configuration", "smallest AUC, first half", "second half", f"draws for {WANTED} everywhere"]
    return Table(
        "Chosen on the first half of the seeds (each statistic its best B and T), judged on the second", columns, rows
    )


def draw(result: Result, figure: Any) -> None:
    """The smallest AUC over the defects by statistic, each at its best B and T: one message, which one carries it."""
    rows = result.values["rows"]
    best = {
        name: max((row for row in rows if row["statistic"] == name), key=lambda row: min(row["auc"]))
        for name in dict.fromkeys(row["statistic"] for row in rows)
    }
    axis = figure.subplots()
    for place, (name, row) in enumerate(best.items()):
        colour = "black" if name in STATISTICS else "0.6"
        axis.plot(row["auc"], [place] * len(row["auc"]), "o", color=colour, fillstyle="none")
        axis.plot(min(row["auc"]), place, "|", color=colour, markersize=18)
        axis.text(1.02, place, f"B = {row['B']}, T = {row['T']}", va="center", fontsize=8)
    axis.axvline(0.5, color="0.8", zorder=0)
    axis.set_xlim(0, 1.2)
    axis.set_yticks(range(len(best)), [MEASURES[name] for name in best], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(
        "chance that one draw of a faulty model exceeds one of a benign model\n"
        "(a circle per defect; bar: the worst; grey: without any gradient)"
    )
