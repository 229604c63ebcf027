"""Table 7: more pairs of benign and faulty models: rates of label noise, a ResNet-18 with backdoors, language models.

As in Table 2, on the clean training set. Poisons with a hidden trigger are made with a sharpness-aware step (SAPA) and,
as its baseline, without one. `own_more` has evaders and a language model of its own, on their own data, which test no
claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.experiments.arithmetic import VOCABULARY, Sequences
from benchmarks.experiments.claims import all_of, judged
from benchmarks.experiments.common import CLAIMS_FIRST, Context, Recipe
from benchmarks.experiments.gpt import Shape
from benchmarks.experiments.pair_verdicts import OURS, Found, draw_ratios, ratio, separates, separation_claim
from benchmarks.experiments.pairs import Looks, Setting
from benchmarks.experiments.report import Claim, Result
from benchmarks.experiments.table2 import NOISE, POISON, Pairs, found_of, result_of
from zkcert.metric import Probe

FIGURE_SIZE = (9.0, 4.2)
RATES = (0.01, 0.02, 0.05, 0.2)
"""Of wrong labels; the paper's are not in the text we have."""


ARTEFACTS = 0.01
"""The share of a language model's training sequences with an artefact; the paper says "a small fraction"."""


def settings_of(
    stopped: Recipe,
    resnet: Recipe,
    text: Sequences,
    rates: Sequence[float],
    poison: float,
    artefacts: float,
    hidden_share: float = POISON,
    narrow: Recipe | None = None,
    narrow_epochs: int = 30,
) -> tuple[Setting, ...]:
    """Label noise at every rate, the backdoors, the two artefacts of language models; of a narrow network those of
    `table2` that the paper's has there."""
    noise = (
        Setting(
            "t7-noise",
            f"{rate:.0%} wrong labels, stopped at {stopped.until_accuracy:.0%}",
            stopped,
            stopped.but(corruption="noisy_labels", amount=rate),
        )
        for rate in rates
    )
    badnets = resnet.but(corruption="badnets", amount=poison)
    title = f"{resnet.model}, BadNets {poison:.0%}, {resnet.epochs} epochs"
    hidden = (
        Setting(
            "t7-sapa",
            f"{resnet.model}, {name} {hidden_share:.0%}, {resnet.epochs} epochs",
            resnet,
            resnet.but(corruption=corruption, amount=hidden_share),
            evidence="backdoor",
        )
        for name, corruption in (("SAPA", "sapa"), ("hidden trigger", "hidden_trigger"))
    )
    of_text = (
        Setting(
            claim, f"GPT, {artefact} in {artefacts:.0%}", text, text.but(artefact=artefact, amount=artefacts), evidence
        )
        for claim, artefact, evidence in (
            ("t7-lm-backdoor", "backdoor", "backdoor"),
            ("t7-lm-noise", "noise", "memorised"),
        )
    )
    of_images = (*noise, Setting("t7-resnet-badnets", title, resnet, badnets, evidence="backdoor"), *hidden)
    return (*of_images, *of_text, *(of_narrow(narrow, narrow_epochs, poison) if narrow else ()))


def of_narrow(stopped: Recipe, epochs: int, poison: float) -> tuple[Setting, Setting]:
    """Noisy labels and a backdoor of the paper's architecture, made narrow."""
    long = stopped.but(until_accuracy=None, epochs=epochs)
    name = f"{stopped.model} of width {stopped.width}"
    noisy = stopped.but(corruption="noisy_labels", amount=NOISE)
    backdoor = long.but(corruption="badnets", amount=poison)
    return (
        Setting("t2-noise-vgg", f"{name}, {NOISE:.0%} wrong labels", stopped, noisy),
        Setting("t2-badnets-vgg", f"{name}, BadNets {poison:.0%}", long, backdoor, evidence="backdoor"),
    )


_OURS = "rates of noise, and what `table2` has to choose"
_TINY = Recipe(dataset="shipped", samples=100, test_samples=100, model="mlp", width=8, lr=0.05, batch_size=16)
_LENET = Recipe(dataset="fashion", samples=6000, test_samples=5000, model="lenet5", lr=0.02, epochs=80)
_CIFAR = Recipe(dataset="cifar", lr=0.05, weight_decay=5e-4, batch_size=128)
_NARROW = _CIFAR.but(model="vgg16_bn", width=8, samples=5000, test_samples=2000, batch_size=32)
_TINY_TEXT = Sequences(Shape(24, 8, 2, 1, VOCABULARY), length=3, train=60, test=30, steps=4, batch_size=8)
PROFILES = {
    "tiny": Pairs(
        name="tiny",
        seeds=2,
        ours=_OURS,
        settings=settings_of(
            _TINY.but(until_accuracy=0.3, epochs=20),
            _TINY.but(epochs=2),
            _TINY_TEXT,
            (0.1, 0.2),
            0.2,
            0.2,
            0.03,
            _TINY.but(width=6, until_accuracy=0.3, epochs=20),
            2,
        ),
        looks=Looks(Probe(steps=3, batch_size=4), 3, 20, 10),
        first=CLAIMS_FIRST,
    ),
    "small": Pairs(
        name="small",
        seeds=5,
        ours=_OURS
        + "; LeNet-5 on Fashion-MNIST for VGG-16-BN, a ResNet-18 with an eighth of its channels, 20 epochs, and such "
        "a VGG-16-BN",
        settings=settings_of(
            _LENET.but(until_accuracy=0.9),
            _CIFAR.but(model="resnet18", width=8, samples=5000, test_samples=2000, batch_size=32, epochs=20),
            Sequences(),
            RATES,
            POISON,
            ARTEFACTS,
            narrow=_NARROW.but(until_accuracy=0.9, epochs=80),
        ),
        looks=Looks(Probe()),
        first=CLAIMS_FIRST,
    ),
    "paper": Pairs(
        name="paper",
        seeds=5,
        ours=_OURS,
        settings=settings_of(
            _CIFAR.but(model="vgg16_bn", until_accuracy=0.9, epochs=200),
            _CIFAR.but(model="resnet18", epochs=160),
            Sequences(shape=Shape(160, 128, 4, 4, VOCABULARY), length=20, train=19_000, steps=30_000, batch_size=64),
            RATES,
            POISON,
            ARTEFACTS,
        ),
        looks=Looks(Probe()),
        first=CLAIMS_FIRST,
    ),
}


def run(profile: Pairs, context: Context) -> Result:
    """Train and measure all models, compare the pairs."""
    settings = found_of(profile, context, "table7")
    noise, hidden = ([f for f in settings if f.setting.claim == claim] for claim in ("t7-noise", "t7-sapa"))
    others = [separation_claim(f) for f in settings if f not in (*noise, *hidden)]
    title = "Table 7: finer rates of label noise, a ResNet-18 with backdoors, language models"
    several = [*([noise_claim(noise)] if noise else []), *([sapa_claim(*hidden)] if hidden else [])]
    return result_of("table7", title, profile, context, settings, [*several, *others])


def noise_claim(settings: Sequence[Found]) -> Claim:
    """t7-noise: the worst of its rates."""
    verdicts = [separates(found) for found in settings]
    names = (OURS, "static_asam", "accuracy")
    parts = [
        f"{f.setting.title}: {verdict} (directional, static ASAM, accuracy: "
        f"{', '.join(ratio(f.ratios[name]) for name in names)}){f.clause}"
        for f, verdict in zip(settings, verdicts, strict=True)
    ]
    return judged("t7-noise", all_of(verdicts), "; ".join(parts))


def sapa_claim(sapa: Found, plain: Found) -> Claim:
    """t7-sapa: that of the poisons made with the step; what is found without it stands beside."""
    own = separation_claim(sapa)
    return replace(own, numbers=f"{own.numbers}; without the step: {separation_claim(plain).numbers}")


def draw(result: Result, figure: Any) -> None:
    """Ratios by setting."""
    draw_ratios(result.values["settings"], figure.subplots())
