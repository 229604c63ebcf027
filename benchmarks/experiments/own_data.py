"""Own data: what directional sharpness tells of models measured on the data they were trained on, corrupted or not.

No claim of the paper, whose metrics are taken on the clean training set (see table2): the question of somebody to whom
a provider commits the data it used. Kinds of models, measures and the views they are taken in:
benchmarks/experiments/defects.py. What "tells" means: benchmarks/experiments/separation.py, and own_verdicts.py. The
small test set: test accuracy on as many random test samples as a probe reads, and on other numbers of them.

All of it is done for each of several trainings: for a number of epochs, after which a model of noisy labels has the
larger training loss, and until the same training loss, which means that noisy labels are learnt by heart. How much log
ratios fluctuate depends on how far the losses are from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid
from benchmarks.experiments.defects import COMMITTED, DEFECTS, EXPECTED, KINDS, LABELS, Task, assess
from benchmarks.experiments.own_verdicts import Models, claims, compare, tables, values
from benchmarks.experiments.report import Result
from benchmarks.experiments.separation import refuted, smallest_p
from zkcert.metric import Probe

FIGURE_SIZE = (9.5, 6.4)


@dataclass(frozen=True)
class Profile2(Profile):
    """What to train and how to measure it.

    trainings    recipes of well-trained models, by name; amounts: of each corruption.
    draws        of the probe, and of test sets; test_sizes: of those.
    worst        settings of worst-case sharpness, at least its `subset`.
    """

    trainings: dict[str, Recipe] = field(default_factory=dict)
    amounts: dict[str, float] = field(default_factory=dict)
    draws: int = 8
    probe: Probe = field(default_factory=Probe)
    test_sizes: tuple[int, ...] = (50, 160, 500)
    worst: dict[str, int] = field(default_factory=lambda: {"subset": 1000})


_OURS = (
    "everything: architecture, training, amounts of corruption, the frame whose colour tells the class, the trigger, "
    "and that models are measured on their own data"
)
_TINY = Recipe(dataset="shipped", samples=120, test_samples=80, model="mlp", width=8, epochs=3, batch_size=16)
_RESNET = Recipe(dataset="cifar", model="resnet18", batch_size=128)
_AMOUNTS = {"noisy_labels": 0.2, "spurious": 0.9, "badnets": 0.1}
PROFILES = {
    "tiny": Profile2(
        "tiny",
        2,
        _OURS,
        trainings={
            "3 epochs": _TINY,
            "until a training loss of 1.8": _TINY.but(epochs=20, until_loss=1.8),
        },
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
        trainings={
            "LeNet-5, 12 epochs": Recipe(
                dataset="fashion", samples=6000, test_samples=5000, model="lenet5", lr=0.02, epochs=12, warmup=0.1
            ),
            "small CNN, until a training loss of 0.05": Recipe(
                dataset="fashion",
                samples=1500,
                test_samples=5000,
                model="cnn",
                width=16,
                lr=0.02,
                batch_size=32,
                epochs=150,
                until_loss=0.05,
            ),
        },
        amounts=_AMOUNTS,
        worst={"subset": 500, "restarts": 2, "ascent_steps": 10, "bisections": 4, "batch_size": 64},
    ),
    "paper": Profile2(
        "paper",
        10,
        _OURS,
        trainings={
            "ResNet-18, 150 epochs": _RESNET.but(lr=0.1, weight_decay=5e-4, epochs=150, warmup=0.1, augment=True),
            "ResNet-18, until a training loss of 0.01": _RESNET.but(lr=0.05, epochs=300, until_loss=0.01),
        },
        amounts=_AMOUNTS,
        draws=20,
        test_sizes=(50, 160, 500, 2000),
    ),
}


# -------------------------------------------------------------------------------------------------------- run


def run(profile: Profile2, context: Context) -> Result:
    """Train models of every kind, take all measures, compare."""
    groups = {name: models_of(name, recipe, profile, context) for name, recipe in profile.trainings.items()}
    found = {name: compare(models) for name, models in groups.items()}
    origins = dict.fromkeys(load_data(recipe.dataset, context).origin for recipe in profile.trainings.values())
    size = profile.probe.steps * profile.probe.batch_size
    return Result(
        name="own_data",
        title="Own data: well-trained and defective models, each on what it was trained on",
        profile=profile.name,
        data="; ".join(origins),
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[table for name, models in groups.items() for table in tables(models, found[name], name)],
        claims=[claim for name, models in groups.items() for claim in claims(models, found[name], size, name)],
        notes=[*notes(profile), *(of_losses(name, models) for name, models in groups.items())],
        values={
            "models": groups,
            "separations": {
                name: [{"view": v, "kind": k, "measure": m, **s.to_dict()} for (v, k, m), s in some.items()]
                for name, some in found.items()
            },
            "probe": profile.probe.to_dict(),
            "amounts": profile.amounts,
        },
    )


def models_of(training: str, clean: Recipe, profile: Profile2, context: Context) -> list[dict[str, Any]]:
    """What `assess` says of the models of one training, of all kinds and seeds."""
    corrupted = [clean.but(corruption=kind, amount=amount) for kind, amount in profile.amounts.items()]
    tasks = [
        Task(recipe.but(seed=seed, data_seed=seed), profile.probe, profile.draws, profile.test_sizes, profile.worst)
        for recipe in (clean, *corrupted)
        for seed in range(profile.seeds)
    ]
    found = []
    for part in (tasks[: profile.seeds], tasks[profile.seeds :]):  # controls are in the cache before they are needed
        found += run_grid(assess, part, context, f"own data, {training}")
    return [model for some in found for model in some]


def notes(profile: Profile2) -> list[str]:
    """What a reader has to know of the numbers."""
    amounts = ", ".join(f"{KINDS[kind]} {amount:g}" for kind, amount in profile.amounts.items())
    probe = profile.probe
    return [
        f"Amounts of corruption: {amounts}. Probe: T = {probe.steps}, B = {probe.batch_size}, rho = "
        f"{float(probe.rho):g}, lr = {float(probe.lr):g}, {probe.variant}, float64, {profile.draws} draws; the other "
        "measures in float32. Defects were expected to raise every measure but the accuracies.",
        "Verdicts rest on every model being measured on its own data, those it was trained on: what a provider commits "
        "to, corrupted where training was, and a test set that is a split of the same.",
        '"Control" are the well-trained models of the same seeds on the defective models\' data. Against it the data '
        "are the same, but only the defective models were fitted to them; what that alone does shows the placebo: it "
        "sets the well-trained models on their own data against the control: a defect would have to beat it. In the "
        "comparison on clean data the well-trained models were fitted to them. A control reads the same draws "
        "as the model it is for; of a model with 4-bit weights it is the well-trained one as it is.",
        "Models of one seed share initialisation and training subset, and a model with 4-bit weights is a well-trained "
        f"one, rounded: so the permutation test swaps within seeds (with {profile.seeds} seeds p is at least "
        f"{smallest_p(profile.seeds):.2g}), and intervals over models x draws and of differences leave out seeds; "
        "Newcombe's interval treats models as independent, which is too wide for pairs that go together. With so many "
        f"seeds an AUC over models is refuted if it is at most {refuted(profile.seeds):.2f}: most measures that tell "
        "nothing come out as inconclusive. p-values are not corrected for the number of comparisons. An interval of "
        "numbers without spread is not shown.",
        "Std(log L_t) is a control of ours: what the score owes to how the losses of mini-batches fluctuate, without "
        "any gradient. Where it tells models as well, the gradients add nothing.",
        "A draw of the probe fails where the loss or the gradient vanishes or diverges. It counts as infinite in "
        "ranks; the verdict is inconclusive wherever the mean of a model is infinite for it.",
    ]


def of_losses(training: str, models: Models) -> str:
    """How closely a score goes with the losses' fluctuation, draw by draw."""
    pairs = [(m[COMMITTED]["directional"], m[COMMITTED]["log_loss"]) for m in models]
    scores, losses = (np.ravel(side) for side in zip(*pairs, strict=True))
    if not np.isfinite([scores, losses]).all():
        return f"{training}: draws failed, so that scores and Std(log L_t) are not correlated here."
    correlation = np.corrcoef(scores, losses)[0, 1]
    about = f"the score has correlation {correlation:.2f} with Std(log L_t)"
    return f"{training}: over all draws of all models on their own data, {about}."


def draw(result: Result, figure: Any) -> None:
    """A row per training: directional sharpness of every model and draw on committed data; AUC of every measure."""
    groups = result.values["models"]
    for row, (training, models) in zip(figure.subplots(len(groups), 2, squeeze=False), groups.items(), strict=True):
        last = row[0] in figure.axes[-2:]
        _draw_scores(row[0], models, training, last)
        _draw_areas(row[1], result.values["separations"][training], last)


def _draw_scores(axis: Any, models: Models, training: str, labelled: bool) -> None:
    for i, kind in enumerate(KINDS):
        scores = values(models, kind, COMMITTED, "directional")
        for j, drawn in enumerate(scores):
            drawn = drawn[np.isfinite(drawn)]
            axis.plot([i + 0.6 * ((j + 0.5) / len(scores) - 0.5)] * len(drawn), drawn, ".", color=f"C{i}", alpha=0.6)
    axis.set_xticks(
        range(len(KINDS)), [*KINDS.values()] if labelled else [""] * len(KINDS), rotation=30, ha="right", fontsize=8
    )
    axis.set_title(f"{training}:\ndirectional sharpness on own data, a column per model", fontsize=8)


def _draw_areas(axis: Any, separations: Sequence[dict[str, Any]], labelled: bool) -> None:
    found = {(s["view"], s["kind"], s["measure"]): s["auc_models"] for s in separations}
    grid = [[found[COMMITTED, kind, name] for name in EXPECTED] for kind in DEFECTS]
    axis.imshow(grid, vmin=0, vmax=1, cmap="RdBu", aspect="auto")
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            colour = "white" if abs(value - 0.5) > 0.3 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    names = [LABELS[name] if labelled else "" for name in EXPECTED]
    axis.set_xticks(range(len(EXPECTED)), names, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(DEFECTS)), [KINDS[kind] for kind in DEFECTS], fontsize=8)
    axis.set_title("AUC over models, each on its own data", fontsize=8)
