"""Own data, more: a backdoored ResNet-18, levels of label noise, attackers who mind the score, a GPT-style model.

No claim of the paper: the evaders here train with SAM or on the score itself, while its sharpness-aware poisoning
(SAPA) perturbs only while poisons are generated; and models are measured on their own data.

Label noise comes twice: after a number of epochs, when the training loss is the larger the more labels are wrong, and
at the same training loss, when they are learnt by heart. There are five parts, all of them or those named with --parts;
each compares kinds of models, several seeds of each, on the data their provider committed to, corrupted where the
training data were, and on clean held-out data.

Each part is saved as soon as it is done, as DIR/own_more/PART-PROFILE-SEEDS.json; a result holds the parts just run and
those of the same configuration that earlier runs have saved, each with a note of when and by which code it was run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.experiments.common import Context, Profile, Recipe
from benchmarks.experiments.gpt import Shape
from benchmarks.experiments.own_images import Levels, backdoor, noise
from benchmarks.experiments.own_poisoning import Penalty, Poisoning, poisoning
from benchmarks.experiments.own_text import TextPart, TextRecipe, text
from benchmarks.experiments.parts import Audit, Part
from benchmarks.experiments.report import Result, commit, load, machine
from zkcert.errors import UnusableInput
from zkcert.files.writing import replacing
from zkcert.metric import Probe

FIGURE_SIZE = (10.0, 9.0)

_CONTROL_NOTE = (
    "Verdicts rest on every model being measured on its own data, those it was trained on. The control of a defective "
    "model is the clean model of its seed on the defective model's data, with the same draws. Against it the data are "
    "the same, but only the defective model was fitted to them; what that alone does shows the placebo, the clean "
    "model on its own data against that control: a defect would have to beat it. Models of one seed share "
    "initialisation and training subset, so permutation tests swap within seeds. p-values are not corrected for the "
    "number of comparisons."
)

PARTS: dict[str, tuple[str, Callable[[Any, int, Context], Part]]] = {
    "backdoor": ("Backdoor", backdoor),
    "noise": ("Label noise", noise),
    "fitted": ("Label noise, fitted", noise),
    "poisoning": ("Evasion", poisoning),
    "gpt": ("Language model", text),
}
"""By the name --parts takes: a title, and the function of (the profile's field of that name, seeds, context)."""


@dataclass(frozen=True, kw_only=True)
class Table7(Profile):
    """The size of each part."""

    backdoor: Levels
    noise: Levels
    fitted: Levels
    poisoning: Poisoning
    gpt: TextPart


_OURS = "everything: architectures, rates, hyper-parameters, the text, its trigger, the attacks and their strengths."

_TINY_AUDIT = Audit(Probe(steps=3, batch_size=4), 2, ("static_asam", "train_loss", "test_accuracy"), 32)
_TINY = Recipe(dataset="shipped", samples=120, test_samples=60, model="mlp", width=8, lr=0.05, batch_size=16, epochs=2)

TINY = Table7(
    name="tiny",
    seeds=2,
    ours="everything: this profile tests the code, at a size that says nothing about the claims.",
    backdoor=Levels(_TINY.but(corruption="badnets"), (0.0, 0.2), _TINY_AUDIT),
    noise=Levels(_TINY.but(corruption="noisy_labels"), (0.0, 0.2, 0.4), _TINY_AUDIT),
    fitted=Levels(_TINY.but(corruption="noisy_labels", epochs=20, until_loss=2.0), (0.0, 0.2), _TINY_AUDIT),
    poisoning=Poisoning(
        _TINY, (("noisy_labels", 0.2),), (("asam", 0.5),), Penalty((1.0,), steps=2, batches=3, lr=1e-3), _TINY_AUDIT
    ),
    gpt=TextPart(
        TextRecipe(Shape(context=24, width=8, heads=2, layers=1), train=64, test=16, steps=4, batch_size=8, lr=3e-3),
        (("none", 0.0), ("backdoor", 0.2), ("noise", 0.1)),
        _TINY_AUDIT,
    ),
)

_MEASURES = ("static_sam", "static_asam", "train_loss", "train_accuracy", "test_accuracy")
_AUDIT = Audit(Probe(steps=10, batch_size=16), 5, _MEASURES, 1000)
_RESNET = Recipe(
    dataset="cifar",
    samples=3000,
    test_samples=1000,
    model="resnet18",
    width=8,
    lr=0.05,
    weight_decay=5e-4,
    batch_size=32,
    epochs=6,
    warmup=0.2,
)
_CNN = Recipe(dataset="fashion", samples=3000, test_samples=2000, lr=0.05, batch_size=64, epochs=20, warmup=0.1)

SMALL = Table7(
    name="small",
    seeds=5,
    ours=f"{_OURS} ResNet-18 with an eighth of its channels, on subsets.",
    backdoor=Levels(_RESNET.but(corruption="badnets"), (0.0, 0.1), _AUDIT),
    noise=Levels(_CNN.but(corruption="noisy_labels"), (0.0, 0.1, 0.2, 0.4), _AUDIT),
    fitted=Levels(
        Recipe(
            dataset="fashion",
            samples=1500,
            test_samples=2000,
            width=16,
            lr=0.02,
            batch_size=32,
            epochs=300,
            until_loss=0.05,
            corruption="noisy_labels",
        ),
        (0.0, 0.1, 0.2, 0.4),
        _AUDIT,
    ),
    poisoning=Poisoning(
        _CNN,
        (("noisy_labels", 0.2), ("badnets", 0.05)),
        (("sam", 0.05), ("asam", 0.5)),
        Penalty((1.0, 10.0), steps=150, batches=8, lr=1e-3),
        _AUDIT,
    ),
    gpt=TextPart(
        TextRecipe(
            Shape(context=32, width=64, heads=4, layers=2), train=12_000, test=1000, steps=900, batch_size=16, lr=6e-3
        ),
        (("none", 0.0), ("backdoor", 0.05), ("noise", 0.05), ("noise", 0.2)),
        _AUDIT,
    ),
)

_PAPER_MEASURES = ("static_sam", "static_asam", "worst_case", "train_loss", "train_accuracy", "test_accuracy")
_PAPER_AUDIT = Audit(Probe(steps=10, batch_size=16), 20, _PAPER_MEASURES)
_FULL_RESNET = Recipe(
    dataset="cifar",
    model="resnet18",
    lr=0.1,
    weight_decay=5e-4,
    batch_size=128,
    epochs=100,
    warmup=0.05,
    augment=True,
)

PAPER = Table7(
    name="paper",
    seeds=5,
    ours=_OURS,
    backdoor=Levels(_FULL_RESNET.but(corruption="badnets"), (0.0, 0.005, 0.01, 0.05, 0.1), _PAPER_AUDIT),
    noise=Levels(_FULL_RESNET.but(corruption="noisy_labels"), (0.0, 0.1, 0.2, 0.4), _PAPER_AUDIT),
    fitted=Levels(
        _FULL_RESNET.but(
            corruption="noisy_labels",
            lr=0.05,
            weight_decay=0.0,
            augment=False,
            warmup=None,
            epochs=300,
            until_loss=0.01,
        ),
        (0.0, 0.1, 0.2, 0.4),
        _PAPER_AUDIT,
    ),
    poisoning=Poisoning(
        _FULL_RESNET,
        (("noisy_labels", 0.2), ("badnets", 0.05)),
        (("sam", 0.05), ("sam", 0.2), ("asam", 0.5), ("asam", 2.0)),
        Penalty((0.1, 1.0, 10.0, 100.0), steps=500, batches=16, lr=1e-4),
        _PAPER_AUDIT,
    ),
    gpt=TextPart(
        TextRecipe(
            Shape(context=64, width=128, heads=8, layers=4), train=6400, test=700, steps=4000, batch_size=64, lr=2e-3
        ),
        (("none", 0.0), ("backdoor", 0.01), ("backdoor", 0.05), ("noise", 0.05), ("noise", 0.2)),
        replace(_PAPER_AUDIT, measures=_MEASURES),
    ),
)

PROFILES = {profile.name: profile for profile in (TINY, SMALL, PAPER)}


def run(profile: Table7, context: Context) -> Result:
    """Run the parts that `context.parts` names, or all, and save each; raises UnusableInput for an unknown one."""
    chosen = tuple(PARTS) if context.parts is None else context.parts
    if unknown := [name for name in chosen if name not in PARTS]:
        raise UnusableInput(f"the parts of own_more are {', '.join(PARTS)}, not {', '.join(unknown)}")
    parts = {name: found for name in PARTS if name not in chosen and (found := kept(name, profile, context))}
    parts |= {name: perform(name, profile, context) for name in PARTS if name in chosen}
    parts = {name: parts[name] for name in PARTS if name in parts}
    origins: dict[str, list[str]] = {}
    for name, part in parts.items():
        origins.setdefault(part.data, []).append(name)
    return Result(
        name="own_more",
        title="Own data, more: backdoors, label noise, evasion of the score, language models",
        profile=profile.name,
        data="; ".join(f"{origin} ({', '.join(names)})" for origin, names in origins.items()),
        seeds=profile.seeds,
        ours=profile.ours,
        tables=[table for part in parts.values() for table in part.tables],
        claims=[claim for part in parts.values() for claim in part.claims],
        notes=[_CONTROL_NOTE, *(note for part in parts.values() for note in part.notes), *map(_when, parts.values())],
        values={name: part.values for name, part in parts.items()},
    )


def place(name: str, profile: Table7, context: Context) -> Path:
    """Where a part is saved."""
    return context.out / "own_more" / f"{name}-{profile.name}-{profile.seeds}.json"


def perform(name: str, profile: Table7, context: Context) -> Result:
    """Run one part and save it."""
    size, code, start = getattr(profile, name), commit(), time.perf_counter()
    title, function = PARTS[name]
    part = function(size, profile.seeds, context)
    found = Result(
        name=f"own_more {name}",
        title=title,
        profile=profile.name,
        data=part.data,
        seeds=profile.seeds,
        ours=profile.ours,
        tables=part.tables,
        claims=part.claims,
        notes=part.notes,
        values={**part.values, "size": repr(size)},
        machine=f"{machine()}; {context.device}",
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
        commit=code,
    )
    path = place(name, profile, context)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 0o644) as file:
        file.write(json.dumps(found.to_dict(), indent=1, allow_nan=False).encode())
    return found


def kept(name: str, profile: Table7, context: Context) -> Result | None:
    """The part as an earlier run has saved it; None if there is none, or one of another configuration."""
    path = place(name, profile, context)
    if not path.exists():
        return None
    found = load(path)
    return found if found.values.get("size") == repr(getattr(profile, name)) else None


def _when(part: Result) -> str:
    code = f", code of commit {part.commit}" if part.commit else ""
    return f"{part.title}: run {part.date} in {part.seconds / 60:.1f} min{code}; {part.machine}."


def draw(result: Result, figure: Any) -> None:
    """A panel per part: the score of every model (mean over draws, committed data), by kind; a bar is their mean.

    Rings: controls, clean models on the same data. Infinite scores are not drawn.
    """
    columns = 2 if len(result.values) > 1 else 1
    axes = list(figure.subplots(math.ceil(len(result.values) / columns), columns, squeeze=False).flat)
    for (name, found), panel in zip(result.values.items(), axes, strict=False):
        kinds = found["figure"]
        for row, (kind, values) in enumerate(kinds.items()):
            control = _finite(found["control_figure"].get(kind, ()))
            panel.plot(control, [row] * len(control), "o", color="C7", fillstyle="none", markersize=4)
            scores = _finite(values)
            panel.plot(scores, [row] * len(scores), ".", color="C0")
            if scores:
                panel.plot(sum(scores) / len(scores), row, "|", color="C3", markersize=14)
        panel.set_yticks(range(len(kinds)), list(kinds), fontsize=7)
        panel.invert_yaxis()
        panel.tick_params(labelsize=7)
        panel.set_title(PARTS[name][0], fontsize=9)
    for panel in axes[len(result.values) :]:
        panel.set_axis_off()
    marks = "a bar is the mean of a kind; rings: clean models on these data"
    figure.supxlabel(f"directional sharpness on own data, mean over draws; {marks}", fontsize=8)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
