"""Own data: comparisons of models of one training, verdicts, tables.

What "tells" means: benchmarks/experiments/separation.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

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
    SMALL_TEST,
    WORKS,
)
from benchmarks.experiments.report import INCONCLUSIVE, Claim, Table, spread
from benchmarks.experiments.separation import (
    RULE,
    Separation,
    auc,
    between,
    difference,
    separation,
    sign,
)

Models = Sequence[dict[str, Any]]

PLACEBO = "placebo"
COMPARISONS = {
    COMMITTED: "each on its own data",
    CONTROL: "both on the defective model's data (control)",
    PLACEBO: "no defect: well-trained models on their own data against the control (placebo)",
    BEFORE: "both on clean data",
}
"""What well-trained and defective models are measured on. The first decides: there every model is measured on the data
it was trained on. In the others one of two models knows the data and the other does not, which alone moves a measure,
as the placebo shows: it compares well-trained models with themselves."""


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
    if view == PLACEBO:
        return values(models, kind, CONTROL, measure, size), values(models, CLEAN, COMMITTED, measure, size)
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


def better(low: float, high: float, seeds: int, failed: int) -> str:
    """Whether the first of two AUCs is the larger, from the interval of their difference."""
    return INCONCLUSIVE if seeds < ENOUGH or failed else sign(low, high)


ENOUGH = 5
"""Seeds that a jackknife over seeds needs, to mean anything."""


BETTER = (
    "reproduced if the jackknife's 95% interval (over seeds, all models of a seed together) of the difference of AUCs, "
    "mean over kinds of defect, each model on its own data, lies above 0; not reproduced if it lies below 0 and has a "
    f"width; inconclusive otherwise, with fewer than {ENOUGH} seeds, and where draws of the probe failed"
)


def mean_success(models: Models) -> float:
    """Mean over models with a backdoor."""
    return float(np.mean([m["attack"] for m in models if m["kind"] == BACKDOOR]))


BACKDOOR_RULE = f"{RULE}; inconclusive, too, where the mean attack success is below {WORKS:.0%}"


def claims(models: Models, found: dict[tuple[str, str, str], Separation], size: int, training: str) -> list[Claim]:
    """Per kind of defect, and against test accuracy; every model on its own data.

    All are inconclusive where a model did not reach the training loss it should have.
    """
    made = []
    short = sum(not m["reached"] for m in models)
    draws = values(models, CLEAN, COMMITTED, "directional").shape[1]
    for kind in DEFECTS:
        s = found[COMMITTED, kind, "directional"]
        failures = f", {s.clean_failed} and {s.failed} draws failed" if s.clean_failed or s.failed else ""
        numbers = (
            f"AUC over models {s.auc_models:.3f} {between(s.models_low, s.models_high)}, p = {s.p:.3g}; over "
            f"models x draws {s.auc:.3f} {between(s.low, s.high)}; means {s.clean_mean:.3g} of well-trained, "
            f"{s.mean:.3g} of defective models{failures}"
        )
        title = f"Directional sharpness (mean of {draws} draws) tells models with {KINDS[kind]} from well-trained ones"
        verdict = s.verdict
        if kind == BACKDOOR and (success := mean_success(models)) < WORKS:
            verdict, numbers = INCONCLUSIVE, f"the backdoor does not work (success {success:.0%}); {numbers}"
        made.append(Claim(title, verdict, numbers, BACKDOOR_RULE if kind == BACKDOOR else RULE))
    ours = [found[COMMITTED, kind, "directional"] for kind in DEFECTS]
    failed = sum(s.clean_failed + s.failed for s in ours)
    for other, text in (
        (SMALL_TEST, f"test accuracy on one small test set ({size} samples, as many as the draw reads)"),
        ("test_accuracy", "test accuracy on the full test set"),
    ):
        gain, low, high = advantage(models, other, COMMITTED)
        title = f"A single draw of directional sharpness tells them better than {text}"
        verdict = better(low, high, ours[0].models, failed)
        made.append(Claim(title, verdict, f"difference of AUCs {gain:.3f} {between(low, high)}", BETTER))
    about = f" ({training})"
    if short:
        made = [replace(c, verdict=INCONCLUSIVE, numbers=f"{short} models did not reach it; {c.numbers}") for c in made]
    return [replace(claim, claim=claim.claim + about) for claim in made]


def tables(models: Models, found: dict[tuple[str, str, str], Separation], training: str) -> list[Table]:
    """Everything there is to see of the models of one training."""
    details = (_details(found, view, training) for view in COMPARISONS)
    return [_overview(found, training), _advantages(models, training), *details, *_counts(models, training)]


def _overview(found: dict[tuple[str, str, str], Separation], training: str) -> Table:
    rows = [
        [KINDS[kind], COMPARISONS[view], *(f"{found[view, kind, name].auc_models:.2f}" for name in EXPECTED)]
        for kind in DEFECTS
        for view in COMPARISONS
    ]
    title = (
        f"{training}: AUC over models (1: every defective model on the expected side of every well-trained one; 0.5: "
        "chance)"
    )
    return Table(title, ["defect", "well-trained and defective", *LABELS.values()], rows)


def _advantages(models: Models, training: str) -> Table:
    rows = []
    for other in [name for name in EXPECTED if name != "directional"]:
        gains = [advantage(models, other, view) for view in COMPARISONS]
        rows.append([LABELS[other], *(f"{gain:.2f} {between(low, high, 2)}" for gain, low, high in gains)])
    title = (
        f"{training}: AUC of a single draw of directional sharpness less that of other measures, mean over the kinds "
        "of defect, 95% interval (jackknife over seeds)"
    )
    return Table(title, ["measure", *COMPARISONS.values()], rows)


def _details(found: dict[tuple[str, str, str], Separation], view: str, training: str) -> Table:
    rows = []
    for name in EXPECTED:
        for kind in DEFECTS:
            s = found[view, kind, name]
            means = [f"{s.clean_mean:.4g} ± {s.clean_sd:.2g}", f"{s.mean:.4g} ± {s.sd:.2g}"]
            aucs = [f"{s.auc:.3f} {between(s.low, s.high)}", f"{s.auc_models:.3f}"]
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
    title = (
        f"{training}: well-trained and defective models, {where}: mean and deviation over models, AUC, one-sided p, "
        "Cohen's d"
    )
    return Table(title, columns, rows)


def _counts(models: Models, training: str) -> list[Table]:
    return [_test_sizes(models, training), _models(models, training), failures(models, training)]


def failures(models: Models, training: str) -> Table:
    """Draws of the probe that failed, of all, by kind of model and view."""
    rows = []
    for kind, title in KINDS.items():
        cells = []
        for view in (COMMITTED, BEFORE, CONTROL):
            drawn = values(models, kind, view, "directional") if view != CONTROL or kind != CLEAN else None
            cells.append(None if drawn is None else f"{int((~np.isfinite(drawn)).sum())} of {drawn.size}")
        rows.append([title, *cells])
    title = f"{training}: draws of the probe that failed (its loss or gradient vanished or diverged)"
    return Table(title, ["models", "committed data", "clean data", "control on the committed data"], rows)


def _test_sizes(models: Models, training: str) -> Table:
    sizes = sorted(models[0][COMMITTED]["small_tests"], key=int)
    rows = []
    for kind in DEFECTS:
        for view in COMPARISONS:
            pairs = [sides(models, kind, view, "small_tests", size) for size in sizes]
            pairs.append(sides(models, kind, view, "test_accuracy"))
            rows.append([KINDS[kind], COMPARISONS[view], *(f"{auc(-clean, -bad):.3f}" for clean, bad in pairs)])
    columns = ["defect", "well-trained and defective", *(f"{size} samples" for size in sizes), "all"]
    title = f"{training}: AUC of test accuracy over models x random test sets, by size of the test set"
    return Table(title, columns, rows)


def _models(models: Models, training: str) -> Table:
    rows = []
    for kind, title in KINDS.items():
        some = [m for m in models if m["kind"] == kind]
        accuracies = [
            spread(m[view][name] for m in some)
            for view, name in ((COMMITTED, "train_accuracy"), (COMMITTED, "test_accuracy"), (BEFORE, "test_accuracy"))
        ]
        attack = spread(m["attack"] for m in some) if some[0]["attack"] is not None else None
        rows.append([title, len(some), spread(m[COMMITTED]["train_loss"] for m in some), *accuracies, attack])
    columns = [
        "models",
        "number",
        "training loss",
        "training accuracy",
        "test accuracy, committed",
        "test accuracy, clean",
        "attack success",
    ]
    return Table(f"{training}: models, on the data they were trained on unless a column says clean", columns, rows)
