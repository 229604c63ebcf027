"""Table 2, Assumption 3 and Theorem 2: pairs of benign and faulty models, told apart on the clean training set.

Five settings, as in section 5.1 of the paper: 10 % of wrong labels, squares that betray the class, both stopped at 90 %
training accuracy; a BadNets backdoor in 1 % of the images; SGD against SAM, of which one suffers more from rounding to
4 bits; and wrong labels that a crafted test set of 100 samples hides. What is measured:
benchmarks/experiments/pairs.py; claims and rules: docs/results/claims.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import arithmetic
from benchmarks.experiments.common import CLAIMS_FIRST, Context, Profile, Recipe, load_data, run_grid
from benchmarks.experiments.failures import note
from benchmarks.experiments.measures import DRAWN
from benchmarks.experiments.pair_verdicts import (
    Found,
    common_claims,
    compare,
    draw_ratios,
    separation_claim,
    tables,
    values_of,
)
from benchmarks.experiments.pairs import Looks, Setting, Subject, describe, observe
from benchmarks.experiments.report import Result
from zkcert.errors import UnusableInput
from zkcert.metric import Probe

FIGURE_SIZE = (9.0, 4.2)


@dataclass(frozen=True, kw_only=True)
class Pairs(Profile):
    """The settings, and how their models are looked at."""

    settings: tuple[Setting, ...]
    looks: Looks


NOISE, POISON = 0.1, 0.01
"""The paper's rates of wrong labels and of images with a backdoor."""


def settings_of(stopped: Recipe, long: Recipe, noise: float = NOISE, poison: float = POISON) -> tuple[Setting, ...]:
    """The five settings, of a training that stops at an accuracy and of one of a fixed number of epochs."""
    noisy = {"corruption": "noisy_labels", "amount": noise}
    stop = f"stopped at {stopped.until_accuracy:.0%}"
    return (
        Setting("t2-noise", f"{noise:.0%} wrong labels, {stop}", stopped, stopped.but(**noisy)),
        Setting(
            "t2-square", f"square, {stop}", stopped, stopped.but(corruption="square", amount=0.5), evidence="square"
        ),
        Setting(
            "t2-badnets",
            f"BadNets {poison:.0%}, {long.epochs} epochs",
            long,
            long.but(corruption="badnets", amount=poison),
            evidence="backdoor",
        ),
        Setting("t2-quantisation", "SAM against SGD, 4 bits", long.but(optimizer="sam"), long, evidence="rounding"),
        Setting("t2-smalltest", f"{noise:.0%} wrong labels, crafted test", long, long.but(**noisy), "small test"),
    )


_OURS = (
    "learning rate, momentum, batch size and schedule, which the paper does not give; the side and the place of "
    "trigger and square; that the stop is looked at after each epoch, on the labels trained on; the form of the 4-bit "
    "rounding; eps, ddof and the running statistics of batch-norm"
)
_TINY = Recipe(dataset="shipped", samples=100, test_samples=100, model="mlp", width=8, lr=0.05, batch_size=16)
_LENET = Recipe(dataset="fashion", samples=6000, test_samples=5000, model="lenet5", lr=0.02, batch_size=64, epochs=80)
_VGG = Recipe(dataset="cifar", model="vgg16_bn", lr=0.05, weight_decay=5e-4, batch_size=128, epochs=200)
PROFILES = {
    "tiny": Pairs(
        name="tiny",
        seeds=2,
        ours=_OURS,
        settings=settings_of(_TINY.but(until_accuracy=0.3, epochs=20), _TINY.but(epochs=2), 0.2, 0.2),
        looks=Looks(Probe(steps=3, batch_size=4), 3, 20, 10),
        first=CLAIMS_FIRST,
    ),
    "small": Pairs(
        name="small",
        seeds=5,
        ours=_OURS + "; LeNet-5 on a subset of Fashion-MNIST for VGG-16-BN on CIFAR-10, 30 epochs for 200",
        settings=settings_of(_LENET.but(until_accuracy=0.9), _LENET.but(epochs=30)),
        looks=Looks(Probe()),
        first=CLAIMS_FIRST,
    ),
    "paper": Pairs(
        name="paper",
        seeds=5,
        ours=_OURS,
        settings=settings_of(_VGG.but(until_accuracy=0.9), _VGG),
        looks=Looks(Probe()),
        first=CLAIMS_FIRST,
    ),
}


def run(profile: Pairs, context: Context) -> Result:
    """Train and measure all models, compare the pairs."""
    settings = found_of(profile, context, "table2")
    common = common_claims(settings) if context.parts is None else []  # they are about all settings
    title = "Table 2: faulty models, benign ones, and the clean training set"
    return result_of("table2", title, profile, context, settings, [*map(separation_claim, settings), *common])


def chosen(profile: Pairs, context: Context) -> Pairs:
    """The profile with the settings that `context.parts` names by their claims, or all; raises UnusableInput."""
    if context.parts is None:
        return profile
    names = dict.fromkeys(s.claim for s in profile.settings)
    if unknown := [part for part in context.parts if part not in names]:
        raise UnusableInput(f"the parts are {', '.join(names)}, not {', '.join(unknown)}")
    return replace(profile, settings=tuple(s for s in profile.settings if s.claim in context.parts))


def found_of(profile: Pairs, context: Context, label: str) -> list[Found]:
    """The chosen settings; a model that several settings name is trained and measured once."""
    profile = chosen(profile, context)
    recipes = dict.fromkeys(recipe for s in profile.settings for recipe in (s.benign, s.faulty))
    subjects = [
        (Subject if isinstance(recipe, Recipe) else arithmetic.Subject)(
            recipe.but(seed=seed, data_seed=seed), profile.looks
        )
        for recipe in recipes
        for seed in profile.numbers
    ]
    observed = run_grid(observe_any, subjects, context, label)
    count = profile.seeds
    models = {recipe: observed[i * count : (i + 1) * count] for i, recipe in enumerate(recipes)}
    return [compare(s, models[s.benign], models[s.faulty]) for s in profile.settings]


def observe_any(subject: Subject | arithmetic.Subject, context: Context) -> dict[str, Any]:
    """What is measured of a model of images or of sequences."""
    return observe(subject, context) if isinstance(subject, Subject) else arithmetic.observe(subject, context)


def origin_of(setting: Setting, context: Context) -> str:
    """What its models are trained on."""
    recipe = setting.benign
    return load_data(recipe.dataset, context).origin if isinstance(recipe, Recipe) else str(recipe.origin)


def result_of(
    name: str, title: str, profile: Pairs, context: Context, settings: Sequence[Found], claims: Sequence[Any]
) -> Result:
    """The result of an experiment with such pairs."""
    origins = dict.fromkeys(origin_of(f.setting, context) for f in settings)
    draws = {
        f"{f.setting.title}, {kind}": [m["draws"]["directional"] for m in models]
        for f in settings
        for kind, models in (("benign", f.benign), ("faulty", f.faulty))
    }
    return Result(
        name=name,
        title=title,
        profile=profile.name,
        data="; ".join(origins),
        seeds=profile.seeds,
        ours=profile.ours,
        tables=tables(settings),
        claims=claims,
        notes=[describe(profile.looks), controls(settings), note(draws)],
        values={"settings": values_of(settings)},
    )


def controls(settings: Sequence[Found]) -> str:
    """What numbers without gradients do: if they separate as well, the gradients add nothing."""
    parts = []
    for f in settings:
        areas = [f"{name} {f.aucs[name].auc:.2f}" for name in (*DRAWN, "static_asam", "clean_loss")]
        parts.append(f"{f.setting.title}: {', '.join(areas)}")
    return (
        "AUC of every statistic over single draws (log_loss: Std(log L_t), mean_loss: Mean(L_t), of the same draws and "
        f"without any gradient; of static_asam and clean_loss over models). {'; '.join(parts)}."
    )


def draw(result: Result, figure: Any) -> None:
    """Ratios by setting."""
    draw_ratios(result.values["settings"], figure.subplots())
