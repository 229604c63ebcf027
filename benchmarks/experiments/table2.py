"""Table 2: does directional sharpness tell well-trained models from defective ones, and what does test accuracy tell?

Kinds of models, measures and the views they are taken in: benchmarks/experiments/defects.py. What "tells" means:
benchmarks/experiments/separation.py. The small test set: test accuracy on as many random test samples as a probe
reads, and on other numbers of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid
from benchmarks.experiments.defects import (
    BACKDOOR,
    BEFORE,
    CLEAN,
    COMMITTED,
    CONTROL,
    DEFECTS,
    EXPECTED,
    KINDS,
    LABELS,
    QUANTISED,
    SMALL_TEST,
    Task,
    assess,
)
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, spread
from benchmarks.experiments.separation import (
    OWN_DATA,
    RULE,
    SAME_DATA,
    Separation,
    auc,
    difference,
    separation,
    sign,
    smallest_p,
)
from zkcert.metric import Probe

FIGURE_SIZE = (9.5, 4.0)


@dataclass(frozen=True)
class Profile2(Profile):
    """What to train and how to measure it.

    clean        recipe of well-trained models; amounts: of each corruption.
    draws        of the probe, and of test sets; test_sizes: of those.
    worst        settings of worst-case sharpness, at least its `subset`.
    """

    clean: Recipe = field(default_factory=Recipe)
    amounts: dict[str, float] = field(default_factory=dict)
    draws: int = 8
    probe: Probe = field(default_factory=Probe)
    test_sizes: tuple[int, ...] = (50, 160, 500)
    worst: dict[str, int] = field(default_factory=lambda: {"subset": 1000})


_OURS = (
    "architecture, training, amounts of corruption, the form of the spurious feature (a frame whose colour tells the "
    "class) and of the trigger, the probe's parameters, and what data models are measured on (all views are shown); "
    '"small test set" read as test accuracy on few samples'
)
_AMOUNTS = {"noisy_labels": 0.2, "spurious": 0.9, "badnets": 0.1}
PROFILES = {
    "tiny": Profile2(
        "tiny",
        2,
        _OURS,
        clean=Recipe(dataset="shipped", samples=120, test_samples=80, model="mlp", width=8, epochs=3, batch_size=16),
        amounts=_AMOUNTS,
        draws=2,
        probe=Probe(steps=3, batch_size=4),
        test_sizes=(12, 40),
        worst={"subset": 60, "restarts": 1, "ascent_steps": 3, "bisections": 2},
    ),
    "small": Profile2(
        "small",
        5,
        _OURS,
        clean=Recipe(
            dataset="fashion", samples=6000, test_samples=5000, model="lenet5", lr=0.02, epochs=12, warmup=0.1
        ),
        amounts=_AMOUNTS,
        worst={"subset": 500, "restarts": 2, "ascent_steps": 10, "bisections": 4, "batch_size": 64},
    ),
    "paper": Profile2(
        "paper",
        10,
        _OURS,
        clean=Recipe(
            dataset="cifar",
            model="resnet18",
            lr=0.1,
            batch_size=128,
            weight_decay=5e-4,
            epochs=150,
            warmup=0.1,
            augment=True,
        ),
        amounts=_AMOUNTS,
        draws=20,
        test_sizes=(50, 160, 500, 2000),
    ),
}


# ------------------------------------------------------------------------------------------------- comparisons

Models = Sequence[dict[str, Any]]

COMPARISONS = {
    CONTROL: "both on the defective model's data (control)",
    COMMITTED: "each on its own data (committed)",
    BEFORE: "both on clean data (clean)",
}
"""What well-trained and defective models are measured on."""

JUDGED = {COMMITTED: OWN_DATA, CONTROL: SAME_DATA}
"""The comparisons that have a verdict of their own; of models with 4-bit weights, whose data are clean, only one."""

WORKS = 0.5
"""A backdoor whose mean attack success is below this is none."""


def values(models: Models, kind: str, view: str, measure: str, size: str | None = None) -> np.ndarray:
    """A measure of all models of a kind, [models, draws], or [models, 1] for one that is not drawn; in order of seeds.

    size  of test sets, for the measure "small_tests".
    """
    some = sorted((m for m in models if m["kind"] == kind), key=lambda m: m["seed"])
    found = [m[view][measure] if size is None else m[view][measure][size] for m in some]
    return np.array(found, np.float64).reshape(len(found), -1)


def sides(models: Models, kind: str, view: str, measure: str, size: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`values` of the well-trained models, and of those of a kind of defect, that a comparison sets side by side."""
    if view == CONTROL:
        return values(models, kind, CONTROL, measure, size), values(models, kind, COMMITTED, measure, size)
    return values(models, CLEAN, view, measure, size), values(models, kind, view, measure, size)


def compare(models: Models) -> dict[tuple[str, str, str], Separation]:
    """(comparison, kind, measure) -> how well the measure tells models of that kind from well-trained ones."""
    return {
        (view, kind, name): separation(*sides(models, kind, view, name), expected)
        for view in COMPARISONS
        for name, expected in EXPECTED.items()
        for kind in DEFECTS
    }


def advantage(models: Models, other: str, view: str) -> tuple[float, float, float]:
    """AUC of a single draw of directional sharpness less that of another measure, mean over the kinds of defect.

    With its 95% interval: `separation.difference`.
    """
    groups = []
    for kind in DEFECTS:
        (a1, b1), (a2, b2) = (
            tuple(EXPECTED[name] * side for side in sides(models, kind, view, name)) for name in ("directional", other)
        )
        groups.append(((a1, a2), (b1, b2)))
    return difference(groups)


def better(intervals: Sequence[tuple[float, float]], seeds: int, failed: int) -> str:
    """Whether the first of two AUCs is the larger, from intervals of their difference, one per comparison."""
    if seeds < ENOUGH or failed:
        return INCONCLUSIVE
    found = [sign(low, high) for low, high in intervals]
    return next((verdict for verdict in (NOT_REPRODUCED, INCONCLUSIVE) if verdict in found), REPRODUCED)


ENOUGH = 5
"""Seeds that a jackknife over seeds needs, to mean anything."""


BETTER = (
    "over the comparisons (both on the defective model's data, each on its own, both on clean data): reproduced if the "
    "jackknife's 95% interval (over seeds, all models of a seed together) of the difference of AUCs, mean over kinds "
    "of defect, lies above 0 in all; not reproduced if it lies below 0 in one and has a width; inconclusive otherwise, "
    f"with fewer than {ENOUGH} seeds, and where draws of the probe failed"
)


def attack_success(models: Models) -> float:
    """Mean over models with a backdoor."""
    return float(np.mean([m["attack"] for m in models if m["kind"] == BACKDOOR]))


BACKDOOR_RULE = f"{RULE}; inconclusive, too, where the mean attack success is below {WORKS:.0%}"


def claims(models: Models, found: dict[tuple[str, str, str], Separation], size: int) -> list[Claim]:
    """Per kind of defect and comparison of `JUDGED`; and against test accuracy."""
    made = []
    draws = values(models, CLEAN, COMMITTED, "directional").shape[1]
    for kind in DEFECTS:
        for view, where in list(JUDGED.items())[: 1 if kind == QUANTISED else None]:
            s = found[view, kind, "directional"]
            failures = f", {s.clean_failed} and {s.failed} draws failed" if s.clean_failed or s.failed else ""
            numbers = (
                f"AUC over models {s.auc_models:.3f} [{s.models_low:.3f}, {s.models_high:.3f}], p = {s.p:.3g}; over "
                f"models x draws {s.auc:.3f} [{s.low:.3f}, {s.high:.3f}]; means {s.clean_mean:.3g} of well-trained, "
                f"{s.mean:.3g} of defective models{failures}"
            )
            title = (
                f"Directional sharpness (mean of {draws} draws) tells models with {KINDS[kind]} from well-trained "
                f"ones, {'measured on the same, clean data' if kind == QUANTISED else where}"
            )
            verdict = s.verdict
            if kind == BACKDOOR and (success := attack_success(models)) < WORKS:
                verdict, numbers = INCONCLUSIVE, f"the backdoor does not work (success {success:.0%}); {numbers}"
            made.append(Claim(title, verdict, numbers, BACKDOOR_RULE if kind == BACKDOOR else RULE))
    seeds = found[COMMITTED, DEFECTS[0], "directional"].models
    ours = [s for (_, _, name), s in found.items() if name == "directional"]
    failed = sum(s.clean_failed + s.failed for s in ours)
    for other, text in (
        (SMALL_TEST, f"test accuracy on one small test set ({size} samples, as many as the draw reads)"),
        ("test_accuracy", "test accuracy on the full test set"),
    ):
        gains = {view: advantage(models, other, view) for view in COMPARISONS}
        numbers = "difference of AUCs, " + "; ".join(
            f"{COMPARISONS[view]}: {gain:.3f} [{low:.3f}, {high:.3f}]" for view, (gain, low, high) in gains.items()
        )
        title = f"A single draw of directional sharpness tells them better than {text}"
        made.append(Claim(title, better([gain[1:] for gain in gains.values()], seeds, failed), numbers, BETTER))
    return made


# -------------------------------------------------------------------------------------------------------- run


def run(profile: Profile2, context: Context) -> Result:
    """Train models of every kind, take all measures, compare."""
    corrupted = [profile.clean.but(corruption=kind, amount=amount) for kind, amount in profile.amounts.items()]
    tasks = [
        Task(recipe.but(seed=seed, data_seed=seed), profile.probe, profile.draws, profile.test_sizes, profile.worst)
        for recipe in (profile.clean, *corrupted)
        for seed in range(profile.seeds)
    ]
    models = []
    for part in (tasks[: profile.seeds], tasks[profile.seeds :]):  # controls are in the cache before they are needed
        models += [model for some in run_grid(assess, part, context, "table2") for model in some]
    found = compare(models)
    size = tasks[0].small_test
    return Result(
        name="table2",
        title="Table 2: distinguishability of well-trained and defective models",
        profile=profile.name,
        data=load_data(profile.clean.dataset, context).origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_overview(found), *(_details(found, view) for view in COMPARISONS), *_counts(models)],
        claims=claims(models, found, size),
        notes=notes(profile, models),
        values={
            "models": models,
            "separations": [
                {"view": view, "kind": kind, "measure": name, **s.to_dict()} for (view, kind, name), s in found.items()
            ],
            "probe": profile.probe.to_dict(),
            "amounts": profile.amounts,
        },
    )


def notes(profile: Profile2, models: Models) -> list[str]:
    """What a reader has to know of the numbers."""
    amounts = ", ".join(f"{KINDS[kind]} {amount:g}" for kind, amount in profile.amounts.items())
    probe = profile.probe
    return [
        f"Amounts of corruption: {amounts}. Probe: T = {probe.steps}, B = {probe.batch_size}, rho = "
        f"{float(probe.rho):g}, lr = {float(probe.lr):g}, {probe.variant}, float64, {profile.draws} draws; the other "
        "measures in float32. Defects were expected to raise every measure but the accuracies.",
        '"Committed" is the view of an auditor: the data a provider committed to are those it trained on, corrupted, '
        'and its test set is a split of the same. "Clean" takes the same measures on the samples as they were before.',
        '"Control" are the well-trained models on the committed data of the defective ones of their seed: data alone '
        "move a measure, and only against it is a difference one between models. A control reads the same draws as the "
        "model it is for; of a model with 4-bit weights, whose data are clean, it is the well-trained one as it is.",
        "Models of one seed share initialisation and training subset, and a model with 4-bit weights is a well-trained "
        f"one, rounded: so the permutation test swaps within seeds (with {profile.seeds} seeds p is at least "
        f"{smallest_p(profile.seeds):.2g}), and intervals over models x draws and of differences leave out seeds; "
        "Newcombe's interval treats models as independent, which is too wide for pairs that go together. "
        "p-values are not corrected for the number of comparisons.",
        "A draw of the probe fails where the loss or the gradient vanishes or diverges. It counts as infinite in "
        "ranks; the verdict is inconclusive wherever the mean of a model is infinite for it.",
    ]


def _overview(found: dict[tuple[str, str, str], Separation]) -> Table:
    rows = [
        [KINDS[kind], COMPARISONS[view], *(f"{found[view, kind, name].auc_models:.2f}" for name in EXPECTED)]
        for kind in DEFECTS
        for view in COMPARISONS
    ]
    title = "AUC over models (1: every defective model on the expected side of every well-trained one; 0.5: chance)"
    return Table(title, ["defect", "well-trained and defective", *LABELS.values()], rows)


def _details(found: dict[tuple[str, str, str], Separation], view: str) -> Table:
    rows = []
    for name in EXPECTED:
        for kind in DEFECTS:
            s = found[view, kind, name]
            means = [f"{s.clean_mean:.4g} ± {s.clean_sd:.2g}", f"{s.mean:.4g} ± {s.sd:.2g}"]
            aucs = [f"{s.auc:.3f} [{s.low:.3f}, {s.high:.3f}]", f"{s.auc_models:.3f}"]
            rows.append([LABELS[name], KINDS[kind], *means, *aucs, f"{s.p:.3g}", f"{s.effect:.2f}"])
    columns = [
        "measure",
        "defect",
        "well-trained",
        "defective",
        "AUC, models x draws",
        "AUC, models",
        "p",
        "effect size",
    ]
    where = COMPARISONS[view]
    title = f"Well-trained and defective models, {where}: mean and deviation over models, AUC, one-sided p, Cohen's d"
    return Table(title, columns, rows)


def _counts(models: Models) -> list[Table]:
    return [_test_sizes(models), _models(models), failures(models)]


def failures(models: Models) -> Table:
    """Draws of the probe that failed, of all, by kind of model and view."""
    rows = []
    for kind, title in KINDS.items():
        cells = []
        for view in (COMMITTED, BEFORE, CONTROL):
            drawn = values(models, kind, view, "directional") if view != CONTROL or kind != CLEAN else None
            cells.append(None if drawn is None else f"{int((~np.isfinite(drawn)).sum())} of {drawn.size}")
        rows.append([title, *cells])
    title = "Draws of the probe that failed: its loss or gradient vanished or diverged"
    return Table(title, ["models", "committed data", "clean data", "control on the committed data"], rows)


def _test_sizes(models: Models) -> Table:
    sizes = sorted(models[0][COMMITTED]["small_tests"], key=int)
    rows = []
    for kind in DEFECTS:
        for view in COMPARISONS:
            pairs = [sides(models, kind, view, "small_tests", size) for size in sizes]
            pairs.append(sides(models, kind, view, "test_accuracy"))
            rows.append([KINDS[kind], COMPARISONS[view], *(f"{auc(-clean, -bad):.3f}" for clean, bad in pairs)])
    columns = ["defect", "well-trained and defective", *(f"{size} samples" for size in sizes), "all"]
    return Table("AUC of test accuracy over models x random test sets, by size of the test set", columns, rows)


def _models(models: Models) -> Table:
    rows = []
    for kind, title in KINDS.items():
        some = [m for m in models if m["kind"] == kind]
        accuracies = [
            spread(m[view][name] for m in some)
            for view, name in ((COMMITTED, "train_accuracy"), (COMMITTED, "test_accuracy"), (BEFORE, "test_accuracy"))
        ]
        attack = spread(m["attack"] for m in some) if some[0]["attack"] is not None else None
        rows.append([title, len(some), *accuracies, attack])
    columns = [
        "models",
        "number",
        "training accuracy",
        "test accuracy, committed",
        "test accuracy, clean",
        "attack success",
    ]
    return Table("Models", columns, rows)


def draw(result: Result, figure: Any) -> None:
    """Directional sharpness of every model and draw on committed data; AUC of every measure."""
    models = result.values["models"]
    left, right = figure.subplots(1, 2)
    for i, kind in enumerate(KINDS):
        scores = values(models, kind, COMMITTED, "directional")
        for j, row in enumerate(scores):
            row = row[np.isfinite(row)]
            left.plot([i + 0.6 * ((j + 0.5) / len(scores) - 0.5)] * len(row), row, ".", color=f"C{i}", alpha=0.6)
    left.set_xticks(range(len(KINDS)), list(KINDS.values()), rotation=30, ha="right", fontsize="small")
    left.set_title("directional sharpness, a column per model", fontsize="medium")
    found = {(s["view"], s["kind"], s["measure"]): s["auc_models"] for s in result.values["separations"]}
    grid = [[found[CONTROL, kind, name] for name in EXPECTED] for kind in DEFECTS]
    right.imshow(grid, vmin=0, vmax=1, cmap="RdBu", aspect="auto")
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            right.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="white" if abs(value - 0.5) > 0.3 else "black"
            )
    right.set_xticks(
        range(len(EXPECTED)), [LABELS[name] for name in EXPECTED], rotation=30, ha="right", fontsize="small"
    )
    right.set_yticks(range(len(DEFECTS)), [KINDS[kind] for kind in DEFECTS], fontsize="small")
    right.set_title("AUC over models, both on the defective model's data", fontsize="medium")
