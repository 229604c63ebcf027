"""Table 3: what directional sharpness costs, against test accuracy, static and worst-case sharpness.

Each measure is timed on trained weights after a warm-up, several times, one after another in a single process with one
thread on a CPU, in float32. Passes over a dataset are timed on a part of it where the profile says so, and scaled by the
number of samples: they consist of equal batches. Directional sharpness and accuracy are timed on random weights too,
in turns with the trained ones, to see whether their time depends on the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.experiments.common import Context, Profile, Recipe, build_module, load_data, run_grid, train_model
from benchmarks.experiments.measures import draw as draw_batches
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, Table
from zkcert.metric import Network, Probe, trajectory
from zkcert.metric.evaluate import accuracy
from zkcert.metric.static import sharpness
from zkcert.metric.worst_case import worst_case_sharpness

FIGURE_SIZE = (9.0, 4.0)
BATCH = 128
"""Of passes over a dataset."""

SHORT, LONG = "directional, T=5, B=8", "directional, T=10, B=16"
PROBES = {SHORT: Probe(steps=5, batch_size=8), LONG: Probe(steps=10, batch_size=16)}
ACCURACY, SAM, ASAM, WORST = "test accuracy", "static SAM", "static ASAM", "worst-case"
MEASURES = (SHORT, LONG, ACCURACY, SAM, ASAM, WORST)
RANDOM, TRAINED = "random", "trained"

MUCH = 5.0
"""What "much faster" is taken to mean."""

SAME, DIFFERENT = 1.15, 1.5
"""Ratios of times up to the first are the same time; beyond the second, they are different times."""


@dataclass(frozen=True)
class Subject:
    """A model to time.

    recipe         of the trained weights; the random ones are its initialisation.
    passes         samples of the test set that accuracy is timed on; 0: all.
    static, worst  samples of the training set that static and worst-case sharpness are timed on; 0: all.
    repeats        of directional sharpness, accuracy and static sharpness; worst-case sharpness is timed once.
    """

    title: str
    recipe: Recipe
    passes: int = 0
    static: int = 0
    worst: int = 0
    repeats: int = 3


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
            Subject("MLP", Recipe(dataset="shipped", samples=128, model="mlp", width=4, epochs=1), 256, 128, 32, 2),
        ),
    ),
    "small": Profile3(
        "small",
        1,
        _OURS,
        subjects=(
            Subject("LeNet-5", _LENET, worst=1024, repeats=5),
            Subject("VGG-11", _CIFAR.but(model="vgg11", samples=512), 512, 256, 32),
            Subject("ResNet-18", _CIFAR.but(model="resnet18", samples=256), 256, 128, 32),
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


def timed(task: Callable[[], object], device: str) -> float:
    """Seconds a task takes, until the device has finished."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    task()
    wait()
    return time.perf_counter() - start


def measure(subject: Subject, context: Context) -> dict[str, Any]:
    """Time everything on one model; JSON values, see `run`."""
    trained = train_model(subject.recipe, context)
    data, device = trained.data, context.device
    fresh = build_module(subject.recipe, data).to(device).eval()
    networks = {RANDOM: Network.of_module(fresh), TRAINED: trained.network()}
    test, train = (data.test_x, data.test_y), (data.train_x, data.train_y)
    passes, static, worst = (
        (data.inputs(x[: count or None]), torch.from_numpy(y[: count or None]))
        for (x, y), count in ((test, subject.passes), (train, subject.static), (train, subject.worst))
    )
    tasks: dict[str, Callable[[Network], object]] = {
        **{
            name: lambda network, probe=probe, batches=draw_batches(*static, probe, "0"): trajectory(
                network, *batches, probe
            )
            for name, probe in PROBES.items()
        },
        ACCURACY: lambda network: accuracy(network, *passes, BATCH),
        SAM: lambda network: sharpness(network, *static, variant="sam", batch_size=BATCH),
        ASAM: lambda network: sharpness(network, *static, variant="asam-all", batch_size=BATCH),
    }
    seconds: dict[str, dict[str, list[float]]] = {name: {RANDOM: [], TRAINED: []} for name in tasks}
    for network in networks.values():
        warm_up(network, *(part[:BATCH] for part in passes))
    for _ in range(subject.repeats):
        for name, task in tasks.items():
            for weights in (TRAINED,) if name in (SAM, ASAM) else (RANDOM, TRAINED):
                network = networks[weights]
                seconds[name][weights].append(timed(lambda task=task, network=network: task(network), device))
    found: list[Any] = []
    once = timed(
        lambda: found.append(worst_case_sharpness(networks[TRAINED], *worst, batch_size=BATCH)),
        device,
    )
    return {
        "title": subject.title,
        "parameters": sum(w.numel() for w in networks[TRAINED].weights),
        "data": data.origin,
        "trained": {"epochs": trained.epochs, "samples": len(trained.labels), "loss": trained.train_loss},
        "seconds": {**seconds, WORST: {RANDOM: [], TRAINED: [once]}},
        "measured": {ACCURACY: len(passes[1]), SAM: len(static[1]), ASAM: len(static[1]), WORST: len(worst[1])},
        "whole": {ACCURACY: len(test[1]), SAM: len(train[1]), ASAM: len(train[1]), WORST: len(train[1])},
        "worst_case": found[0].to_dict(),
    }


def warm_up(network: Network, x: torch.Tensor, y: torch.Tensor) -> None:
    """A pass and a gradient, so that memory is allocated and kernels are chosen."""
    accuracy(network, x, y)
    inputs, labels = x.to(network.device), y.to(network.device)
    for size in (len(x), *(probe.batch_size for probe in PROBES.values())):
        network.gradient(network.weights, inputs[:size], labels[:size])


# --------------------------------------------------------------------------------------------------- verdicts


def whole(subject: dict[str, Any], name: str) -> float:
    """Median seconds of a measure on trained weights, passes scaled to the whole dataset; see `least`."""
    median = float(np.median(subject["seconds"][name][TRAINED]))
    return median * subject["whole"].get(name, 1) / subject["measured"].get(name, 1)


def much_faster(ratios: Sequence[float]) -> str:
    """Whether something is much faster for every model, from times of the other over its own."""
    if min(ratios) >= MUCH:
        return REPRODUCED
    return NOT_REPRODUCED if min(ratios) <= 1 else INCONCLUSIVE


FASTER = (
    f"reproduced if it is at least {MUCH:g} times as fast for every model; not reproduced if it is no faster for one of "
    "them; inconclusive otherwise"
)


def same_time(ratios: Sequence[float]) -> str:
    """Whether times agree, from their ratios."""
    apart = max(max(r, 1 / r) for r in ratios)
    return REPRODUCED if apart <= SAME else NOT_REPRODUCED if apart > DIFFERENT else INCONCLUSIVE


EQUAL = (
    f"reproduced if the medians on trained and on random weights differ by at most a factor {SAME} for every model and "
    f"measure timed on both; not reproduced if some differ by more than {DIFFERENT}; inconclusive otherwise"
)


def claims(subjects: Sequence[dict[str, Any]]) -> list[Claim]:
    """Against each other measure, and about the weights."""
    made = []
    for other, title in (
        (ACCURACY, "a pass over the test set for accuracy"),
        (ASAM, "ASAM sharpness of the whole training set"),
        (WORST, "worst-case sharpness"),
    ):
        ratios = {s["title"]: whole(s, other) / whole(s, LONG) for s in subjects}
        short = {s["title"]: whole(s, other) / whole(s, SHORT) for s in subjects}
        numbers = "; ".join(f"{name}: {ratios[name]:.3g} times (T=5, B=8: {short[name]:.3g})" for name in ratios)
        made.append(
            Claim(f"Directional sharpness (T=10, B=16) is much faster than {title}", much_faster([*ratios.values()]),
                  numbers, FASTER)
        )  # fmt: skip
    pairs = {(s["title"], name): trained_over_random(s, name) for s in subjects for name in (SHORT, LONG, ACCURACY)}
    numbers = "; ".join(f"{title}, {name}: {ratio:.3f}" for (title, name), ratio in pairs.items())
    made.append(
        Claim("These times do not depend on the weights (trained over random)", same_time([*pairs.values()]), numbers,
              EQUAL)
    )  # fmt: skip
    return made


def trained_over_random(subject: dict[str, Any], name: str) -> float:
    """The ratio of the medians."""
    times = subject["seconds"][name]
    return float(np.median(times[TRAINED]) / np.median(times[RANDOM]))
