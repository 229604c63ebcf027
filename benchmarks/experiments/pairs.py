"""Pairs of a benign and a faulty model, measured on the clean training set: what Tables 2 and 7 and the study compare.

The two models of a pair share their seed, and with it the training subset, initialisation and order of samples, and the
samples of every draw. Whatever a model was trained on, the metrics are taken on its training subset before any
corruption. What is measured of a model depends on no other model, and is cached by its recipe and by how it is looked
at, so that settings share models and a run that was broken off goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiments import cache
from benchmarks.experiments.common import Context, Recipe, Trained, entry_of, load_data, train_model, training_set
from benchmarks.experiments.corruptions import quantize4, small, wrong_squares
from benchmarks.experiments.defects import attack_success, hits, in_float64
from benchmarks.experiments.measures import DRAWN, drawn, trajectories
from zkcert.files.writing import replacing
from zkcert.metric import Network, Probe, accuracy, coherence, mean_loss, sharpness
from zkcert.metric.perturbation import norm

_VERSION = 1

SQUARE_COSTS, WORKS, SMALL_TEST_HIDES, MEMORISED, SMALL_TEST = 0.1, 0.5, 0.02, 0.1, 0.9
"""What shows that a defect is there, see `EVIDENCE`; the accuracy of both models on the crafted small test set."""

Model = Mapping[str, Any]
"""What `observe` says of a model."""


@dataclass(frozen=True)
class Setting:
    """One way in which a model can be faulty.

    claim          the id it is judged by, see docs/results/claims.toml
    benign, faulty the recipes of a pair, but for the seeds: of `common`, or of `arithmetic`
    evidence       a name of `EVIDENCE`
    """

    claim: str
    title: str
    benign: Any
    faulty: Any
    evidence: str = "none"


@dataclass(frozen=True)
class Looks:
    """How a model is looked at.

    draws      of the probe
    gradients  clean training samples, the first ones, whose single gradients are taken (coherence, Theorem 2)
    batches    random mini-batches of these at the model's weights, of the probe's size (Theorem 2)
    """

    probe: Probe
    draws: int = 10
    gradients: int = 1000
    batches: int = 200


@dataclass(frozen=True)
class Subject:
    """A model, and how it is looked at."""

    recipe: Recipe
    looks: Looks

    def __str__(self) -> str:
        r = self.recipe
        return f"{r.model}, {r.optimizer}, {r.corruption} {r.amount:g}, seed {r.seed}"


def remembered(path: Path, context: Context, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """JSON values from a file of the cache, or computed and put there; "made" says when they were (UTC).

    A result is as old as its oldest measurement (`claims.oldest`): a claim that was worded after it does not judge it.
    """
    if not context.again:
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        except (OSError, ValueError):
            pass
    made = datetime.now(UTC).isoformat(timespec="seconds")
    found = {**compute(), "made": made}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 0o644) as file:
        file.write(json.dumps(found).encode())
    return found


def measured_at(what: str, recipe: Recipe, context: Context, looks: object) -> Path:
    """Where measurements of a model are kept: they belong to the model and to how it is looked at."""
    data = load_data(recipe.dataset, context)
    raw, labels, _ = training_set(recipe, data, context)
    entry = entry_of(recipe, context, raw, labels, *small(data.test_x, data.test_y, recipe.test_samples, 0))
    return context.cache / f"{what}-{cache.key({'version': _VERSION, 'model': entry.stem, 'looks': repr(looks)})}.json"


def observe(subject: Subject, context: Context) -> dict[str, Any]:
    """Train a model, or take it from the cache, and measure it; JSON values. See `looked_at`."""
    path = measured_at("pair", subject.recipe, context, subject.looks)
    return remembered(path, context, lambda: looked_at(train_model(subject.recipe, context), subject.looks))


def seeds_of(seed: int, draws: int) -> list[str]:
    """Of the draws: the same for all models of one seed."""
    return [f"pair/{seed}/{i}" for i in range(draws)]


def looked_at(trained: Trained, looks: Looks) -> dict[str, Any]:
    """What is measured of a model.

    draws              by name of `measures.DRAWN`, each draw
    static_sam, static_asam, clean_loss, clean_accuracy, gap   on all clean training samples; gap: test loss less that
    own_accuracy, own_loss, test_accuracy, test_loss, epochs, reached, seconds
    coherence, full, rms, sampled, detection_gap   of single gradients, plain: Def. 7, S, S_rms by Theorem 2, the root
                       mean square over random mini-batches, and the right side of Eq. 3
    attack, wrong_squares, rounded   of the test set: success of the trigger, accuracy with wrong squares, and of the
                       weights rounded to 4 bits
    hits               bits of which test samples are classified rightly, hexadecimal; tested: how many there are
    """
    recipe, network, (x, y) = trained.recipe, trained.network(), trained.clean
    found = drawn(in_float64(trained.module), x, y, looks.probe, seeds_of(recipe.seed, looks.draws))
    static = {variant: sharpness(network, x, y, variant=variant) for variant in ("sam", "asam-all")}
    right = hits(network, *trained.test)
    return {
        "seed": recipe.seed,
        "draws": {name: values.tolist() for name, values in found.items()},
        "static_sam": static["sam"].first_order,
        "static_asam": static["asam-all"].first_order,
        "clean_loss": static["sam"].loss,
        "clean_accuracy": accuracy(network, x, y),
        "gap": trained.test_loss - static["sam"].loss,
        "own_accuracy": trained.train_accuracy,
        "own_loss": trained.train_loss,
        "test_accuracy": trained.test_accuracy,
        "test_loss": trained.test_loss,
        "epochs": trained.epochs,
        "reached": trained.reached,
        "seconds": trained.seconds,
        **gradients(network, x[: looks.gradients], y[: looks.gradients], looks, recipe.seed),
        **evidence(trained),
        "hits": np.packbits(right).tobytes().hex(),
        "tested": len(right),
    }


def gradients(network: Network, x: Tensor, y: Tensor, looks: Looks, seed: int) -> dict[str, float]:
    """Assumption 3 and both sides of Theorem 2 at the network's weights, on these samples; see `looked_at`."""
    rho, size = float(looks.probe.rho), min(looks.probe.batch_size, len(y))
    found = coherence(network, x, y)
    rng, squares = np.random.default_rng([seed, 9]), []
    for _ in range(looks.batches):
        index = torch.from_numpy(rng.permutation(len(y))[:size])
        batch = x[index].to(network.device), y[index].to(network.device)
        squares.append((rho * norm(network.gradient(network.weights, *batch)[1])) ** 2)
    return {
        "coherence": found.coherence,
        "full": rho * math.sqrt(found.square_of_mean),
        "rms": math.sqrt(found.expected_square_sharpness(size, rho)),
        "sampled": math.sqrt(float(np.mean(squares))),
        "detection_gap": found.detection_gap(size, rho),
    }


def evidence(trained: Trained) -> dict[str, float]:
    """What shows defects, of any model; see `looked_at`."""
    recipe, data, network = trained.recipe, trained.data, trained.network()
    raw, labels = small(data.test_x, data.test_y, recipe.test_samples, 0)
    marked = data.inputs(wrong_squares(raw, labels, classes=data.classes, seed=recipe.seed))
    rounded = Network.of_module(quantize4(trained.module))
    return {
        "attack": attack_success(trained.module, trained),
        "wrong_squares": accuracy(network, marked, trained.test[1]),
        "rounded": accuracy(rounded, *trained.test),
    }


# ----------------------------------------------------------------------------------- whether a defect is there

Models = Sequence[Model]
"""Of the seeds, in their order."""


def small_test(benign: Model, faulty: Model, size: int = 100) -> bool:
    """Whether there is a test set of that size on which both have SMALL_TEST: 5 % right by one alone, either way."""
    a, b = (
        np.unpackbits(np.frombuffer(bytes.fromhex(m["hits"]), np.uint8))[: m["tested"]] > 0 for m in (benign, faulty)
    )
    alone = size // 20
    wrong = round(size * (1 - SMALL_TEST)) - alone
    wanted = (size - 2 * alone - wrong, alone, alone, wrong)
    there = ((a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum())
    return all(int(have) >= want for have, want in zip(there, wanted, strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _square(benign: Models, faulty: Models) -> tuple[bool, str]:
    cost = _mean([m["test_accuracy"] - m["wrong_squares"] for m in faulty])
    return cost >= SQUARE_COSTS, f"wrong squares cost {100 * cost:.1f} points"


def _backdoor(benign: Models, faulty: Models) -> tuple[bool, str]:
    success = _mean([m["attack"] for m in faulty])
    return success >= WORKS, f"attack success {success:.0%}"


def _rounding(benign: Models, faulty: Models) -> tuple[bool, str]:
    drops = [_mean([m["test_accuracy"] - m["rounded"] for m in models]) for models in (benign, faulty)]
    return drops[1] > drops[0], f"rounding costs {drops[0]:.3f} and {drops[1]:.3f}"


def _hidden(benign: Models, faulty: Models) -> tuple[bool, str]:
    full = [_mean([m["test_accuracy"] for m in models]) for models in (benign, faulty)]
    crafted = [small_test(a, b) for a, b in zip(benign, faulty, strict=True)]
    there = f"such a test set exists for {sum(crafted)} of {len(crafted)}"
    about = f"full test accuracy {full[0]:.3f} and {full[1]:.3f}; {there}"
    return full[0] - full[1] >= SMALL_TEST_HIDES and all(crafted), about


def _memorised(benign: Models, faulty: Models) -> tuple[bool, str]:
    share = _mean([m["memorised"] for m in faulty])
    return share >= MEMORISED, f"{share:.0%} of the artefacts memorised"


EVIDENCE: dict[str, Callable[[Models, Models], tuple[bool, str]]] = {
    "none": lambda benign, faulty: (True, ""),
    "square": _square,
    "backdoor": _backdoor,
    "rounding": _rounding,
    "small test": _hidden,
    "memorised": _memorised,
}
"""Whether a setting's defect is there, from the models of all seeds, and a clause that says so."""


def observed(model: Model, setting: Setting) -> float:
    """The accuracy that a verifier sees in that setting."""
    return SMALL_TEST if setting.evidence == "small test" else float(model["test_accuracy"])


# ------------------------------------------------------------------------------------------------- the study


@dataclass(frozen=True)
class Sweep:
    """Draws of several sizes: of every B so many draws of T steps, of which shorter probes are the beginnings."""

    batches: tuple[int, ...] = (8, 16, 64)
    steps: int = 20
    draws: int = 20


@dataclass(frozen=True)
class Swept:
    """A model of the study."""

    recipe: Recipe
    sweep: Sweep

    def __str__(self) -> str:
        return str(Subject(self.recipe, Looks(Probe())))


def sweep(item: Swept, context: Context) -> dict[str, Any]:
    """s_t and L_t of every draw on the clean training set, lists [draws][steps] by B, None where one fails; and what
    needs no draw. JSON values."""

    def compute() -> dict[str, Any]:
        trained = train_model(item.recipe, context)
        network, (x, y) = trained.network(), trained.clean
        double, of_size = in_float64(trained.module), {}
        for size in item.sweep.batches:
            probe = Probe(steps=item.sweep.steps, batch_size=size)
            found = trajectories(double, x, y, probe, seeds_of(item.recipe.seed, item.sweep.draws))
            of_size[str(size)] = [None if t is None else [t.sharpness.tolist(), t.loss.tolist()] for t in found]
        return {
            "seed": item.recipe.seed,
            "draws": of_size,
            "static_sam": sharpness(network, x, y, variant="sam").first_order,
            "static_asam": sharpness(network, x, y, variant="asam-all").first_order,
            "train_loss": mean_loss(network, x, y),
            "test_accuracy": trained.test_accuracy,
            "reached": trained.reached,
        }

    return remembered(measured_at("sweep", item.recipe, context, item.sweep), context, compute)


def statistic(model: Model, name: str, size: int, steps: int) -> np.ndarray:
    """A statistic of `measures.DRAWN` of every draw of a swept model, of its first steps; infinite if it failed."""
    eps = float(Probe().eps)
    return np.array(
        [
            math.inf if draw is None else DRAWN[name](np.array(draw[0][:steps]), np.array(draw[1][:steps]), eps)
            for draw in model["draws"][str(size)]
        ]
    )


def describe(looks: Looks) -> str:
    """For notes."""
    p = {name: float(getattr(looks.probe, name)) for name in ("rho", "lr", "eps")}
    return (
        f"Probe: T = {looks.probe.steps}, B = {looks.probe.batch_size}, rho = {p['rho']:g}, lr = {p['lr']:g}, eps = "
        f"{p['eps']:g}, {looks.probe.variant}, float64, {looks.draws} draws, the same samples for both models of a "
        f"pair, of the clean training set; single gradients of its first {looks.gradients} samples."
    )
