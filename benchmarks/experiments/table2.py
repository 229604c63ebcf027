"""Table 2: does directional sharpness tell well-trained models from defective ones, and what does test accuracy tell?

Kinds of models, measures and the two views they are taken in: benchmarks/experiments/defects.py. What "tells" means:
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
    BEFORE,
    CLEAN,
    COMMITTED,
    DEFECTS,
    EXPECTED,
    KINDS,
    LABELS,
    SMALL_TEST,
    VIEWS,
    Task,
    assess,
)
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table, spread
from benchmarks.experiments.separation import RULE, Separation, auc, difference, separation
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
    "class) and of the trigger, the probe's parameters, and what data a defective model is measured on (both views are "
    'shown); "small test set" read as test accuracy on few samples'
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


def values(models: Models, kind: str, view: str, measure: str) -> np.ndarray:
    """A measure of all models of a kind, [models, draws], or [models, 1] for one that is not drawn."""
    found = [m[view][measure] for m in models if m["kind"] == kind]
    return np.array(found, np.float64).reshape(len(found), -1)


def compare(models: Models) -> dict[tuple[str, str, str], Separation]:
    """(view, kind, measure) -> how well the measure tells models of that kind from well-trained ones."""
    return {
        (view, kind, name): separation(values(models, CLEAN, view, name), values(models, kind, view, name), expected)
        for view in VIEWS
        for name, expected in EXPECTED.items()
        for kind in DEFECTS
    }


def advantage(models: Models, other: str) -> tuple[float, float, float]:
    """AUC of directional sharpness less that of another measure, all defects together, with its 95% interval."""

    def oriented(name: str, kinds: Sequence[str]) -> np.ndarray:
        return EXPECTED[name] * np.concatenate([values(models, kind, COMMITTED, name) for kind in kinds])

    clean, defective = ((oriented("directional", kinds), oriented(other, kinds)) for kinds in ((CLEAN,), DEFECTS))
    return difference(clean, defective)


def better(low: float, high: float, models: int) -> str:
    """Whether the first of two AUCs is the larger, from the interval of their difference over so many clean models."""
    if models < ENOUGH:
        return INCONCLUSIVE
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high <= 0 else INCONCLUSIVE


ENOUGH = 5
"""Well-trained models that a bootstrap over models needs, to mean anything."""


BETTER = (
    "reproduced if the bootstrap's 95% interval (over models) of the difference of AUCs, all defects together, lies "
    f"above 0; not reproduced if it ends at 0 or below; inconclusive otherwise, and with fewer than {ENOUGH} seeds"
)


def claims(models: Models, found: dict[tuple[str, str, str], Separation], size: int) -> list[Claim]:
    """Per kind of defect, on committed data; and against test accuracy."""
    made = []
    for kind in DEFECTS:
        one, clean = found[COMMITTED, kind, "directional"], found[BEFORE, kind, "directional"]
        numbers = (
            f"AUC over models {one.auc_models:.3f}, p = {one.p:.3g}; over models x draws {one.auc:.3f} "
            f"[{one.low:.3f}, {one.high:.3f}]; on clean data: over models {clean.auc_models:.3f}, p = {clean.p:.3g}"
        )
        title = f"Directional sharpness on the committed data tells models with {KINDS[kind]} from well-trained ones"
        made.append(Claim(title, one.verdict, numbers, RULE))
    enough = found[COMMITTED, DEFECTS[0], "directional"].clean_models
    for other, text in (
        (SMALL_TEST, f"test accuracy on a small test set ({size} samples, as many as the probe reads)"),
        ("test_accuracy", "test accuracy on the full test set"),
    ):
        gain, low, high = advantage(models, other)
        numbers = f"difference of AUCs over models x draws {gain:.3f} [{low:.3f}, {high:.3f}]"
        made.append(
            Claim(f"Directional sharpness tells them better than {text}", better(low, high, enough), numbers, BETTER)
        )
    return made


# -------------------------------------------------------------------------------------------------------- run


def run(profile: Profile2, context: Context) -> Result:
    """Train models of every kind, take all measures, compare."""
    tasks = [
        Task(recipe.but(seed=seed, data_seed=seed), profile.probe, profile.draws, profile.test_sizes, profile.worst)
        for seed in range(profile.seeds)
        for recipe in (
            profile.clean,
            *(profile.clean.but(corruption=kind, amount=amount) for kind, amount in profile.amounts.items()),
        )
    ]
    models = [model for part in run_grid(assess, tasks, context, "table2") for model in part]
    found = compare(models)
    size = tasks[0].small_test
    return Result(
        name="table2",
        title="Table 2: distinguishability of well-trained and defective models",
        profile=profile.name,
        data=load_data(profile.clean.dataset, context).origin,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_overview(found), *(_details(found, view) for view in VIEWS), _test_sizes(models), _models(models)],
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
    infinite = sum(int(np.isinf(m[view]["directional"]).sum()) for m in models for view in VIEWS)
    drawn = sum(len(m[view]["directional"]) for m in models for view in VIEWS)
    amounts = ", ".join(f"{KINDS[kind]} {amount:g}" for kind, amount in profile.amounts.items())
    probe = profile.probe
    return [
        f"Amounts of corruption: {amounts}. Probe: T = {probe.steps}, B = {probe.batch_size}, rho = "
        f"{float(probe.rho):g}, lr = {float(probe.lr):g}, {probe.variant}, float64, {profile.draws} draws; the other "
        "measures in float32. Defects were expected to raise every measure but the accuracies.",
        '"Committed" is the view of an auditor: the data a provider committed to are those it trained on, corrupted, '
        'and its test set is a split of the same. "Clean" takes the same measures on the samples as they were before.',
        "Models of one seed share initialisation and training subset, and a model with 4-bit weights is a well-trained "
        "one, rounded; the test over models treats them as independent. Draws of one model are not. "
        "p-values are not corrected for the number of comparisons.",
        f"{infinite} of {drawn} draws of the probe were infinite (its loss or gradient vanished or diverged).",
    ]


def _overview(found: dict[tuple[str, str, str], Separation]) -> Table:
    rows = [
        [KINDS[kind], view, *(f"{found[view, kind, name].auc_models:.2f}" for name in EXPECTED)]
        for kind in DEFECTS
        for view in VIEWS
    ]
    title = "AUC over models (1: every defective model on the expected side of every well-trained one; 0.5: chance)"
    return Table(title, ["defect", "data", *LABELS.values()], rows)


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
    return Table(f"On {view} data: mean and deviation over models, AUC, one-sided p, Cohen's d", columns, rows)


def _test_sizes(models: Models) -> Table:
    sizes = sorted(models[0][COMMITTED]["small_tests"], key=int)
    rows = []
    for kind in DEFECTS:
        for view in VIEWS:
            clean, defective = (
                {
                    size: np.array([m[view]["small_tests"][size] for m in models if m["kind"] == wanted])
                    for size in sizes
                }
                for wanted in (CLEAN, kind)
            )
            full = auc(*(-values(models, wanted, view, "test_accuracy") for wanted in (CLEAN, kind)))
            rows.append([KINDS[kind], view, *(f"{auc(-clean[s], -defective[s]):.3f}" for s in sizes), f"{full:.3f}"])
    columns = ["defect", "data", *(f"{size} samples" for size in sizes), "all"]
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
    grid = [[found[COMMITTED, kind, name] for name in EXPECTED] for kind in DEFECTS]
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
    right.set_title("AUC over models, both on committed data", fontsize="medium")
