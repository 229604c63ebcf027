"""What the parts of `own_more` share: observing a model, its control, comparing kinds of models, claims.

Verdicts rest on every model being measured on the data it was trained on. The control of a defective model is the clean
model of the same seed on the defective model's data, with the same draws: there the data are the same, but only the
defective model was fitted to them. What that alone does shows the placebo: the clean model on its own data against it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.experiments import measures
from benchmarks.experiments.defects import WORKS
from benchmarks.experiments.failures import failed
from benchmarks.experiments.report import INCONCLUSIVE, Claim, Table, spread
from benchmarks.experiments.separation import RULE as SEPARATION_RULE
from benchmarks.experiments.separation import Separation, between, separation
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe

Observation = dict[str, float]
"""Numbers about one model, by name; of each draw of the probe also "directional/0" and so on."""

COMMITTED, HELD_OUT = "directional", "directional_clean"
"""Directional sharpness on the training data as the provider committed to them, and on held-out clean samples."""

EXPECTED = {"train_accuracy": -1, "test_accuracy": -1}
"""Which way a defect should move a number: down for these, up for all others."""

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

    def __post_init__(self) -> None:
        if unknown := set(self.measures) - set(measures.MEASURES):
            raise UnusableInput(f"unknown measures {', '.join(sorted(unknown))}")

    @property
    def of_training(self) -> tuple[str, ...]:
        """The measures that are taken on committed data; the others are of test samples."""
        return tuple(name for name in self.measures if not name.startswith("test_"))

    def seeds(self, seed: int) -> list[str]:
        """Of the draws: the same for all kinds of models of one seed, others for other seeds."""
        return [f"own_more/{seed}/{i}" for i in range(self.draws)]


@dataclass(frozen=True)
class Part:
    """What one part of the experiment found; models and controls by kind, in order of seeds."""

    data: str
    tables: Sequence[Table]
    claims: Sequence[Claim]
    models: Mapping[str, Sequence[Observation]]
    controls: Mapping[str, Sequence[Observation]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def values(self) -> dict[str, Any]:
        """JSON values: `models`, `controls`, and the scores on committed data of both, by kind, for the figure."""
        both = {"models": self.models, "controls": self.controls}
        found: dict[str, Any] = {
            name: {kind: list(some) for kind, some in kinds.items()} for name, kinds in both.items()
        }
        found["figure"] = {kind: column(some, COMMITTED) for kind, some in self.models.items()}
        found["control_figure"] = {kind: column(some, COMMITTED) for kind, some in self.controls.items()}
        return found


def scores(module: nn.Module, x: Tensor, y: Tensor, probe: Probe, seeds: Sequence[str]) -> np.ndarray:
    """The probe's score on one draw per seed, in float64; infinite where the draw fails, see `failures`."""
    network = Network.of_module(copy.deepcopy(module).double(), batch_norm=probe.batch_norm)
    if x.is_floating_point():
        forward = network.forward
        network = replace(network, forward=lambda weights, a: forward(weights, a.double()))
    return measures.scores(network, x, y, probe, seeds)


def drawn(name: str, found: np.ndarray) -> Observation:
    """The mean over draws, infinite if one failed, and each of them."""
    return {name: float(found.mean()), **{f"{name}/{i}": float(score) for i, score in enumerate(found)}}


def on_committed(module: nn.Module, train: tuple[Tensor, Tensor], audit: Audit, seed: int) -> Observation:
    """What is measured on committed data, of a model of that seed or of the control of one."""
    part = (train[0][: audit.samples or len(train[0])], train[1][: audit.samples or len(train[1])])
    found = _measured(module, part, None, audit.of_training, audit.probe)
    return {**found, **drawn(COMMITTED, scores(module, *train, audit.probe, audit.seeds(seed)))}


def observe(
    module: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    audit: Audit,
    seed: int,
) -> Observation:
    """Directional sharpness of a model of that seed on committed training data and held-out samples, other measures."""
    tested = [name for name in audit.measures if name not in audit.of_training]
    return {
        **on_committed(module, train, audit, seed),
        **_measured(module, test, test, tested, audit.probe),
        **drawn(HELD_OUT, scores(module, *test, audit.probe, audit.seeds(seed))),
    }


def _measured(
    module: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
    which: Sequence[str],
    probe: Probe,
) -> Observation:
    """`measure_all`; of a module whose training diverged (weights not finite) infinite losses and sharpness."""
    network = Network.of_module(module, batch_norm=probe.batch_norm)
    finite = all(bool(torch.isfinite(p).all()) for p in module.parameters())
    defined = [name for name in which if finite or name.endswith("accuracy")]
    found = measures.measure_all(network, train, test, probe, (), which=defined)
    return {name: found.get(name, math.inf) for name in which}


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


Kinds = Mapping[str, Sequence[Observation]]
"""Models by kind, in order of seeds; of controls: by the kind whose data they are measured on."""


def compared(title: str, groups: Kinds, controls: Kinds, clean: str, names: Sequence[str]) -> list[Table]:
    """Tables over kinds of models: mean and spread, how well each number tells a kind from clean ones, failed draws.

    Against `controls` those numbers can be compared that are taken on committed data.
    """
    headers = [HEADERS[name] for name in names]
    means: list[list[str | int | None]] = []
    against_controls, against_clean = [], []
    shown: Sequence[Observation] = ()
    compared_with: Sequence[Observation] = ()
    for kind, found in groups.items():
        means.append([kind, len(found), *(spread(column(found, name)) for name in names)])
        if kind == clean:
            continue
        against_clean.append([kind, *(_area(told(groups[clean], found, name)) for name in names)])
        if kind not in controls:
            continue
        control = controls[kind]
        cells = [spread(column(control, name)) if name in control[0] else None for name in names]
        if control != shown:  # kinds in a row may have the same data
            means.append([f"control: {clean}, on the data of {kind}", len(control), *cells])
            shown = control
        both = [_area(told(control, found, name)) if name in control[0] else None for name in names]
        against_controls.append([kind, *both])
        if control != compared_with:
            placebo = [_area(told(control, groups[clean], name)) if name in control[0] else None for name in names]
            against_controls.append([f"placebo: {clean}, on its own data, against that control", *placebo])
            compared_with = control
    oriented = (
        "(p of a one-sided permutation test); above 0.5 where the defect moves the number the way it should "
        "(accuracies down, all else up)."
    )
    same = f"{title}: AUC over models against {clean} models of the same seeds on the same data (control) {oriented}"
    own = f"{title}: AUC over models against {clean} models on data of their own {oriented}"
    return [
        Table(f"{title}: mean ± deviation over models.", ["kind", "models", *headers], means),
        Table(same, ["kind", *headers], against_controls),
        Table(own, ["kind", *headers], against_clean),
        failures(title, groups, controls),
    ]


def failures(title: str, groups: Kinds, controls: Kinds) -> Table:
    """Draws of the probe that failed, of all, by kind."""

    def count(models: Sequence[Observation], name: str) -> str:
        found = draws_of(models, name)
        return f"{failed(found)} of {found.size}"

    rows = []
    for kind, models in groups.items():
        control = count(controls[kind], COMMITTED) if kind in controls else None
        rows.append([kind, count(models, COMMITTED), count(models, HELD_OUT), control])
    about = "draws of the probe that failed (a loss or gradient vanished or diverged); their scores count as infinite."
    return Table(f"{title}: {about}", ["kind", "committed data", "held-out clean data", "control"], rows)


def _area(found: Separation) -> str:
    return f"{found.auc_models:.2f} (p = {found.p:.2g})"


def works(models: Sequence[Observation]) -> bool:
    """Whether a backdoor is one: a mean attack success of at least `WORKS`."""
    return float(np.mean(column(models, "success"))) >= WORKS


def claim(
    text: str,
    clean: Sequence[Observation],
    defective: Sequence[Observation],
    *,
    working: bool = True,
    doubt: str = "",
    where: str = "",
) -> Claim:
    """A claim that directional sharpness tells models apart, with the verdict of `RULE`.

    clean    clean models on their own data
    working  whether the defect is there at all, see `works`
    doubt    why the scores decide nothing, whatever they are
    where    a clause before the numbers
    """
    found = told(clean, defective)
    numbers = where + _told(found)
    if not working:
        return Claim(text, INCONCLUSIVE, f"the backdoor does not work; {numbers}", RULE)
    if doubt:
        return Claim(text, INCONCLUSIVE, f"{doubt}; {numbers}", RULE)
    return Claim(text, found.verdict, numbers, RULE)


def _told(found: Separation) -> str:
    lost = f", {found.clean_failed} and {found.failed} draws failed" if found.clean_failed or found.failed else ""
    return (
        f"AUC over models {found.auc_models:.2f} {between(found.models_low, found.models_high, 2)}, p = {found.p:.2g}, "
        f"over single draws {found.auc:.2f} {between(found.low, found.high, 2)}, clean mean {found.clean_mean:.3g}, "
        f"defective {found.mean:.3g}{lost}"
    )
