"""Table 3: what directional sharpness costs, against test accuracy, static and worst-case sharpness.

Each measure is timed on trained weights after a warm-up, several times, one after another in a single process, with one
thread on a CPU, in float32. Times on a CPU are processor time: on one thread that is the time it takes where nothing
else runs. Passes over a dataset are timed on a part of it where the profile says so, and scaled by
the number of samples, for they consist of equal batches. Directional sharpness and accuracy are timed on random
weights, too, in turns with the trained ones, to see whether their time depends on the weights.

Worst-case sharpness takes G mini-batch gradients and E passes for the accuracy, which depend on the weights. Timed on
n of N samples in t seconds, it is scaled to t + E (N - n) a, with a the seconds of a pass per sample. Where that takes
too long it is estimated as G b g + E N a, b being its batch size, g the seconds of a gradient per sample, and G and E
those of the first model it was timed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.experiments.claims import judged
from benchmarks.experiments.common import Context, Profile, Recipe, run_grid
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table
from benchmarks.experiments.timing import (
    ACCURACY,
    ASAM,
    BATCH,
    BOTH,
    LONG,
    MEASURES,
    PROBES,
    RANDOM,
    SAM,
    SHORT,
    TRAINED,
    WORST,
    WORST_BATCH,
    Subject,
    measure,
)

FIGURE_SIZE = (9.0, 4.0)

MUCH = 5.0
"""What "much faster" is taken to mean, in questions of ours."""

QUICKER, THOUSAND, HUNDRED = 4.0, 1000.0, 100.0
"""The paper's factors over test accuracy and over worst-case sharpness; and what is far from the latter."""

SAME, DIFFERENT = 1.15, 1.5
"""Ratios of times up to the first are the same time; beyond the second, they are different times."""


@dataclass(frozen=True)
class Profile3(Profile):
    """The models to time."""

    subjects: tuple[Subject, ...] = ()


_OURS = (
    "sizes of the parts of datasets, trainings (long enough that weights are not random any more), float32; "
    'worst-case sharpness with the defaults of `zkcert.metric.worst_case`; "much faster" means at least '
    f"{MUCH:g} times"
)
_LENET = Recipe(dataset="fashion", samples=4000, test_samples=1000, model="lenet5", epochs=3)
_CIFAR = Recipe(dataset="cifar", optimizer="adam", lr=3e-4, batch_size=32, epochs=1, test_samples=64)
_FULL = Recipe(dataset="cifar", lr=0.05, batch_size=128, epochs=10, weight_decay=5e-4, warmup=0.1)
PROFILES = {
    "tiny": Profile3(
        "tiny",
        1,
        _OURS,
        subjects=(
            Subject("MLP", Recipe(dataset="shipped", samples=200, model="mlp", width=4, epochs=1), 256, 128, 32, 2),
        ),
    ),
    "small": Profile3(
        "small",
        1,
        _OURS,
        subjects=(
            Subject("LeNet-5", _LENET, 0, 2560, 5000, 5),
            Subject("VGG-11", _CIFAR.but(model="vgg11", samples=512), 256, 128, None),
            Subject("ResNet-18", _CIFAR.but(model="resnet18", samples=256), 128, 64, None),
        ),
    ),
    "paper": Profile3(
        "paper",
        1,
        _OURS,
        subjects=(
            Subject("LeNet-5", _LENET.but(samples=0, test_samples=0, epochs=10), repeats=9),
            Subject("VGG-11", _FULL.but(model="vgg11", lr=0.01), repeats=9),
            Subject("VGG-16 with batch-norm", _FULL.but(model="vgg16_bn"), repeats=9),
            Subject("ResNet-18", _FULL.but(model="resnet18"), repeats=9),
        ),
    ),
}


# --------------------------------------------------------------------------------------------------- verdicts


def whole(subject: dict[str, Any], name: str) -> float:
    """Median seconds on trained weights, passes scaled to the whole dataset; not of worst-case sharpness."""
    median = float(np.median(subject["seconds"][name][TRAINED]))
    return float(median * subject["whole"].get(name, 1) / subject["measured"].get(name, 1))


def unit_seconds(subject: dict[str, Any]) -> tuple[float, float]:
    """Seconds per sample of a pass (a) and of a gradient (g).

    Static sharpness takes one gradient and two passes, so that g is what is left of it; at least a.
    """
    a, static = (whole(subject, name) / subject["whole"][name] for name in (ACCURACY, SAM))
    return a, max(a, static - 2 * a)


def worst_case_seconds(subject: dict[str, Any], reference: dict[str, Any]) -> float:
    """Of worst-case sharpness on the whole training set; `reference`: where it was timed. See the top of the file."""
    a, _ = unit_seconds(subject)
    n, samples = subject["whole"][WORST], subject["measured"][WORST]
    if subject["worst_case"] is None:
        return predicted(subject, reference["worst_case"], n)
    (seconds,) = subject["seconds"][WORST][TRAINED]
    return float(seconds + subject["worst_case"]["evaluations"] * (n - samples) * a)


def predicted(subject: dict[str, Any], counts: dict[str, Any], samples: int) -> float:
    """G b g + E n a."""
    a, g = unit_seconds(subject)
    return float(counts["gradients"] * min(WORST_BATCH, samples) * g + counts["evaluations"] * samples * a)


def totals(subjects: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Seconds of every measure on the whole dataset, per subject."""
    reference = next(s for s in subjects if s["worst_case"] is not None)
    return [
        {
            **{name: whole(s, name) for name in MEASURES if name != WORST},
            WORST: worst_case_seconds(s, reference),
        }
        for s in subjects
    ]


def much_faster(ratios: Sequence[float]) -> str:
    """Whether something is much faster for every model, from times of the other over its own."""
    if min(ratios) >= MUCH:
        return REPRODUCED
    return NOT_REPRODUCED if min(ratios) <= 1 else INCONCLUSIVE


FASTER = (
    f"reproduced if it is at least {MUCH:g} times as fast for every model; not reproduced if it is no faster for one "
    "of them; inconclusive otherwise"
)


def both(subject: dict[str, Any], name: str) -> tuple[list[float], list[float]]:
    """Repeated times of a measure on random and on trained weights."""
    times = subject["seconds"][name]
    return times[RANDOM], times[TRAINED]


def ratio(random: Sequence[float], trained: Sequence[float]) -> float:
    """Of the medians, trained over random."""
    return float(np.median(trained) / np.median(random))


def same_time(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> str:
    """Whether repeated times on two kinds of weights agree, for all pairs of them."""
    apart = [max(ratio(a, b), 1 / ratio(a, b)) for a, b in pairs]
    if max(apart) <= SAME:
        return REPRODUCED
    disjoint = [max(a) < min(b) or max(b) < min(a) for a, b in pairs]
    different = any(factor > DIFFERENT and clear for factor, clear in zip(apart, disjoint, strict=True))
    return NOT_REPRODUCED if different else INCONCLUSIVE


EQUAL = (
    f"reproduced if the medians on trained and on random weights differ by at most a factor {SAME} for every model and "
    f"measure timed on both; not reproduced if some differ by more than {DIFFERENT} and their ranges do not overlap; "
    "inconclusive otherwise"
)


def claims(subjects: Sequence[dict[str, Any]]) -> list[Claim]:
    """Against each other measure, and about the weights."""
    made, names, seconds = [], [s["title"] for s in subjects], totals(subjects)
    for name, other, enough, little in (
        ("t3-accuracy", ACCURACY, QUICKER, 1.0),
        ("t3-worst", WORST, THOUSAND, HUNDRED),
    ):
        ratios = [t[other] / t[SHORT] for t in seconds]
        verdict = REPRODUCED if min(ratios) >= enough else INCONCLUSIVE
        if min(ratios) <= little:
            verdict = NOT_REPRODUCED
        told = "; ".join(
            f"{n}: {r:.3g} times ({t[SHORT]:.3g} s against {t[other]:.3g} s)"
            for n, r, t in zip(names, ratios, seconds, strict=True)
        )
        made.append(judged(name, verdict, told))
    for other, title in (
        (SAM, "SAM sharpness of the whole training set"),
        (ASAM, "ASAM sharpness of the whole training set"),
    ):
        ratios, short = ([t[other] / t[probe] for t in seconds] for probe in (LONG, SHORT))
        parts = zip(names, ratios, short, strict=True)
        numbers = "; ".join(f"{name}: {long:.3g} times (T=5, B=8: {brief:.3g})" for name, long, brief in parts)
        text = f"Directional sharpness (T=10, B=16) is much faster than {title}"
        made.append(Claim(text, much_faster(ratios), numbers, FASTER))
    pairs = {(s["title"], name): both(s, name) for s in subjects for name in BOTH}
    numbers = "; ".join(f"{title}, {name}: {ratio(*pair):.3f}" for (title, name), pair in pairs.items())
    text = "The time of directional sharpness and of accuracy does not depend on the weights (trained over random)"
    made.append(Claim(text, same_time([*pairs.values()]), numbers, EQUAL))
    return made


# -------------------------------------------------------------------------------------------------------- run


def run(profile: Profile3, context: Context) -> Result:
    """Time every model in this process, one after another."""
    alone = replace(context, jobs=1, cluster=None)
    subjects = run_grid(measure, profile.subjects, alone, "table3")
    return Result(
        name="table3",
        title="Table 3: runtimes",
        profile=profile.name,
        data="; ".join(dict.fromkeys(s["data"] for s in subjects)),
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[_seconds(subjects), _ratios(subjects), _weights(subjects)],
        claims=claims(subjects),
        notes=notes(subjects, context.device),
        values={"subjects": subjects},
    )


def notes(subjects: Sequence[dict[str, Any]], device: str) -> list[str]:
    """What a reader has to know of the numbers."""
    trainings = "; ".join(
        f"{s['title']}: {s['training']['epochs']} epochs on {s['training']['samples']:,} samples, training accuracy "
        f"{s['training']['accuracy']:.2f}"
        for s in subjects
    )
    parts = "; ".join(
        f"{s['title']}: accuracy on {s['measured'][ACCURACY]:,}, static sharpness on {s['measured'][SAM]:,}, "
        + (f"worst-case on {s['measured'][WORST]:,}" if s["worst_case"] else "worst-case estimated")
        for s in subjects
    )
    checks = "; ".join(
        f"{s['title']}: G = {s['worst_case']['gradients']}, E = {s['worst_case']['evaluations']}, "
        f"{s['seconds'][WORST][TRAINED][0]:.3g} s measured, "
        f"{predicted(s, s['worst_case'], s['measured'][WORST]):.3g} s by the formula of estimates"
        for s in subjects
        if s["worst_case"]
    )
    where = "processor time of one thread" if device == "cpu" else "one GPU"
    return [
        f"Float32, {where}, batches of {BATCH} in passes; medians of repeated runs after a warm-up, in brackets the "
        f"fastest and slowest. Weights: {trainings}.",
        f"Samples that were timed: {parts}. Times over a dataset are scaled to all its samples.",
        f"Worst-case sharpness, timed once: {checks}. Estimates take G and E from the first of these.",
    ]


def _seconds(subjects: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for s, seconds in zip(subjects, totals(subjects), strict=True):
        cells = []
        for name in MEASURES:
            times = s["seconds"][name][TRAINED]
            scale = seconds[name] / float(np.median(times)) if times else 0
            spread = f" ({scale * min(times):.3g} to {scale * max(times):.3g})" if len(times) > 1 else ""
            cells.append(f"{seconds[name]:.3g}{spread}" if times else f"{seconds[name]:.3g}, estimated")
        rows.append([s["title"], f"{s['parameters']:,}", *cells])
    title = "Seconds on trained weights, over the whole test or training set where there is a pass over one"
    return Table(title, ["model", "parameters", *MEASURES], rows)


def _ratios(subjects: Sequence[dict[str, Any]]) -> Table:
    others = (ACCURACY, SAM, ASAM, WORST)
    rows = [
        [s["title"], probe, *(f"{seconds[name] / seconds[probe]:.3g}" for name in others)]
        for s, seconds in zip(subjects, totals(subjects), strict=True)
        for probe in PROBES
    ]
    return Table(
        "How many times as long each measure takes as directional sharpness", ["model", "probe", *others], rows
    )


def _weights(subjects: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for s in subjects:
        for name in BOTH:
            pair = both(s, name)
            cells = [f"{np.median(times):.4g} ({min(times):.4g} to {max(times):.4g})" for times in pair]
            rows.append([s["title"], name, *cells, f"{ratio(*pair):.3f}"])
    title = "Seconds as measured, on random and on trained weights"
    return Table(title, ["model", "measure", "random", "trained", "ratio of medians"], rows)


def draw(result: Result, figure: Any) -> None:
    """Seconds of every measure by model."""
    subjects = result.values["subjects"]
    ax = figure.subplots()
    width = 0.8 / len(MEASURES)
    for i, name in enumerate(MEASURES):
        places = np.arange(len(subjects)) + (i - (len(MEASURES) - 1) / 2) * width
        ax.bar(places, [seconds[name] for seconds in totals(subjects)], 0.9 * width, label=name)
    ax.set_yscale("log")
    ax.set_xticks(range(len(subjects)), [s["title"] for s in subjects])
    ax.set_ylabel("seconds, whole dataset")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
