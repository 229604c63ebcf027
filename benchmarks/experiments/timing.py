"""The time of every measure on one model: what Table 3 is made of, and says how it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiments.common import Context, Recipe, build_module, train_model
from benchmarks.experiments.measures import draw as draw_batches
from zkcert.metric import Network, Probe, trajectory
from zkcert.metric.evaluate import accuracy
from zkcert.metric.static import sharpness
from zkcert.metric.worst_case import worst_case_sharpness

BATCH = 128
"""Of passes over a dataset."""

WORST_BATCH = 256
"""Of worst-case sharpness, its default."""

SHORT, LONG = "directional, T=5, B=8", "directional, T=10, B=16"
PROBES = {SHORT: Probe(steps=5, batch_size=8), LONG: Probe(steps=10, batch_size=16)}
ACCURACY, SAM, ASAM, WORST = "test accuracy", "static SAM", "static ASAM", "worst-case"
MEASURES = (SHORT, LONG, ACCURACY, SAM, ASAM, WORST)
RANDOM, TRAINED = "random", "trained"
BOTH = (SHORT, LONG, ACCURACY)
"""Timed on random and on trained weights."""


@dataclass(frozen=True)
class Subject:
    """A model to time.

    recipe         of the trained weights; the random ones are its initialisation.
    passes         samples of the test set that accuracy is timed on; 0: all.
    static, worst  samples of the training set that static and worst-case sharpness are timed on; 0: all; worst-case
                   sharpness is estimated where that is None.
    repeats        of directional sharpness, accuracy and static sharpness; worst-case sharpness is timed once.
    """

    title: str
    recipe: Recipe
    passes: int = 0
    static: int = 0
    worst: int | None = 0
    repeats: int = 3


def timed(task: Callable[[], object], device: str) -> float:
    """Seconds a task takes: processor time of this process, or on a GPU until that has finished."""
    if device != "cuda":
        start = time.process_time()
        task()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    task()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def run_probe(probe: Probe, x: Tensor, y: Tensor, network: Network) -> None:
    """Directional sharpness on mini-batches [T, B, ...]."""
    trajectory(network, x, y, probe)


def measure(subject: Subject, context: Context) -> dict[str, Any]:
    """Time everything on one model.

    JSON values: seconds[measure][weights] are the times as measured, measured[measure] and whole[measure] on how many
    samples and on how many there would be, worst_case what `zkcert.metric.worst_case` found, or None.
    """
    trained = train_model(subject.recipe, context)
    data, device = trained.data, context.device
    fresh = build_module(subject.recipe, data).to(device).eval()
    networks = {RANDOM: Network.of_module(fresh), TRAINED: trained.network()}

    def first(x: np.ndarray, y: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
        return data.inputs(x[: count or None]), torch.from_numpy(y[: count or None])

    passes, static = first(data.test_x, data.test_y, subject.passes), first(data.train_x, data.train_y, subject.static)
    tasks: dict[str, Callable[[Network], object]] = {
        **{
            name: partial(run_probe, probe, *draw_batches(trained.x, trained.y, probe, "0"))
            for name, probe in PROBES.items()
        },
        ACCURACY: lambda network: accuracy(network, *passes, BATCH),
        SAM: lambda network: sharpness(network, *static, variant="sam", batch_size=BATCH),
        ASAM: lambda network: sharpness(network, *static, variant="asam-all", batch_size=BATCH),
    }
    for network in networks.values():
        warm_up(network, *(part[:BATCH] for part in passes))
    seconds: dict[str, dict[str, list[float]]] = {name: {RANDOM: [], TRAINED: []} for name in MEASURES}
    for _ in range(subject.repeats):
        for name, task in tasks.items():
            for weights in (RANDOM, TRAINED) if name in BOTH else (TRAINED,):
                seconds[name][weights].append(timed(partial(task, networks[weights]), device))
    worst = None
    samples = 0
    if subject.worst is not None:
        x, y = first(data.train_x, data.train_y, subject.worst)
        samples, found = len(y), []
        search = partial(worst_case_sharpness, networks[TRAINED], x, y, batch_size=WORST_BATCH)
        seconds[WORST][TRAINED].append(timed(lambda: found.append(search()), device))
        worst = found[0].to_dict()
    n, whole_n = len(static[1]), len(data.train_y)
    return {
        "title": subject.title,
        "parameters": sum(w.numel() for w in networks[TRAINED].weights),
        "data": data.origin,
        "training": {"epochs": trained.epochs, "samples": len(trained.labels), "accuracy": trained.train_accuracy},
        "seconds": seconds,
        "measured": {ACCURACY: len(passes[1]), SAM: n, ASAM: n, WORST: samples},
        "whole": {ACCURACY: len(data.test_y), SAM: whole_n, ASAM: whole_n, WORST: whole_n},
        "worst_case": worst,
    }


def warm_up(network: Network, x: Tensor, y: Tensor) -> None:
    """A pass and gradients of the sizes to come, so that memory is allocated and kernels are chosen."""
    accuracy(network, x, y)
    inputs, labels = x.to(network.device), y.to(network.device)
    for size in (len(x), *(probe.batch_size for probe in PROBES.values())):
        network.gradient(network.weights, inputs[:size], labels[:size])
