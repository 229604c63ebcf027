"""What the parts of Table 7 share: observing a model, comparing kinds of models, claims."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from benchmarks.experiments.measures import draw, measure_all
from benchmarks.experiments.report import INCONCLUSIVE, Claim, Table, spread
from benchmarks.experiments.separation import RULE as SEPARATION_RULE
from benchmarks.experiments.separation import Separation, separation
from zkcert.metric import Network, Probe, trajectory

Observation = dict[str, float]
"""Numbers about one model, by name; of each draw of the probe also "directional/0" and so on."""

COMMITTED, HELD_OUT = "directional", "directional_clean"
"""Directional sharpness on the training data as the provider committed to them, and on held-out clean samples."""

EXPECTED = {"train_accuracy": -1, "test_accuracy": -1}
"""Which way a defect should move a number: down for these, up for all others."""

WORKS = 0.5
RULE = f"{SEPARATION_RULE}; inconclusive, too, where it is a backdoor whose mean attack success is below {WORKS:.0%}"

HEADERS = {
    COMMITTED: "directional sharpness, committed data",
    HELD_OUT: "directional sharpness, held-out clean data",
    "static_sam": "static SAM sharpness",
    "static_asam": "static ASAM sharpness",
    "worst_case": "worst-case sharpness",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "success": "attack success",
}


@dataclass(frozen=True)
class Audit:
    """What is measured of every model.

    probe, draws  directional sharpness, and how many draws of it
    measures      names of `measures.MEASURES` besides it
    samples       those measures are taken on the first so many committed samples, which are in random order; 0: on all
    """

    probe: Probe
    draws: int
    measures: tuple[str, ...]
    samples: int = 0

    def seeds(self, seed: int) -> list[str]:
        """Of the draws: the same for all kinds of models of one seed, others for other seeds."""
        return [f"table7/{seed}/{i}" for i in range(self.draws)]


@dataclass(frozen=True)
class Part:
    """What one part of the experiment found; `figure` is what its panel is drawn from: kind -> scores of its models."""

    data: str
    tables: Sequence[Table]
    claims: Sequence[Claim]
    figure: dict[str, list[float]]
    notes: Sequence[str] = ()
    values: dict[str, Any] = field(default_factory=dict)


def scores(module: nn.Module, x: Tensor, y: Tensor, probe: Probe, seeds: Sequence[str]) -> np.ndarray:
    """The probe's score on one draw per seed, in float64; raises UnusableInput where it vanishes or diverges."""
    network = Network.of_module(copy.deepcopy(module).double(), batch_norm=probe.batch_norm)
    found = np.empty(len(seeds))
    for i, seed in enumerate(seeds):
        images, labels = draw(x, y, probe, seed)
        images = images.double() if images.is_floating_point() else images
        found[i] = trajectory(network, images, labels, probe).score
    return found


def observe(
    module: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    audit: Audit,
    seed: int,
) -> Observation:
    """Directional sharpness of a model of that seed on committed training data and held-out samples, other measures."""
    probe, seeds = audit.probe, audit.seeds(seed)
    network = Network.of_module(module, batch_norm=probe.batch_norm)
    part = tuple(values[: audit.samples or len(values)] for values in train)
    found = measure_all(network, part, test, probe, (), which=audit.measures)
    for name, samples in ((COMMITTED, train), (HELD_OUT, test)):
        draws = scores(module, *samples, probe, seeds)
        found[name] = float(draws.mean())
        found |= {f"{name}/{i}": float(score) for i, score in enumerate(draws)}
    return found


def column(observations: Sequence[Observation], name: str) -> list[float]:
    """One number of several models."""
    return [observation[name] for observation in observations]


def draws_of(observations: Sequence[Observation], name: str) -> np.ndarray:
    """The scores of every draw, [models, draws]."""
    count = sum(key.startswith(f"{name}/") for key in observations[0])
    return np.array([[observation[f"{name}/{i}"] for i in range(count)] for observation in observations])


def told(clean: Sequence[Observation], defective: Sequence[Observation], name: str = COMMITTED) -> Separation:
    """How well a number tells defective models from clean ones: per draw where it is directional sharpness."""
    if name in (COMMITTED, HELD_OUT):
        return separation(draws_of(clean, name), draws_of(defective, name), 1)
    return separation(column(clean, name), column(defective, name), EXPECTED.get(name, 1))


def compared(title: str, groups: Mapping[str, Sequence[Observation]], clean: str, names: Sequence[str]) -> list[Table]:
    """Two tables over kinds of models: mean and spread of each number, and how well it tells the kind from `clean`."""
    headers = [HEADERS[name] for name in names]
    means = [[kind, len(found), *(spread(column(found, name)) for name in names)] for kind, found in groups.items()]
    areas = []
    for kind, found in groups.items():
        if kind != clean:
            areas.append([kind, *(_area(told(groups[clean], found, name)) for name in names)])
    return [
        Table(f"{title}: mean ± deviation over models.", ["kind", "models", *headers], means),
        Table(
            f"{title}: AUC over models against {clean} (p of a one-sided permutation test); above 0.5 where the "
            "defect moves the number the way it should (accuracies down, all else up).",
            ["kind", *headers],
            areas,
        ),
    ]


def _area(found: Separation) -> str:
    return f"{found.auc_models:.2f} (p = {found.p:.2g})"


def works(models: Sequence[Observation]) -> bool:
    """Whether a backdoor is one: a mean attack success of at least `WORKS`."""
    return float(np.mean(column(models, "success"))) >= WORKS


def claim(text: str, found: Separation, *, working: bool = True, where: str = "") -> Claim:
    """A claim that directional sharpness tells models apart, with the verdict of `RULE`.

    working  whether the defect is there at all, see `works`; where: a clause before the numbers.
    """
    numbers = (
        f"{where}AUC over models {found.auc_models:.2f} (p = {found.p:.2g}), over single draws {found.auc:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}]; mean {found.mean:.3g} against {found.clean_mean:.3g}"
    )
    if not working:
        return Claim(text, INCONCLUSIVE, f"the backdoor does not work; {numbers}", RULE)
    return Claim(text, found.verdict, numbers, RULE)
