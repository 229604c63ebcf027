"""Every measure of a model, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor

from zkcert.core.permutation import sample_indices
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe, Trajectory, trajectory
from zkcert.metric.evaluate import accuracy, mean_loss
from zkcert.metric.static import StaticSharpness, sharpness
from zkcert.metric.worst_case import worst_case_sharpness

MEASURES: dict[str, str] = {
    "directional": "directional sharpness, Std(log(s_t^2/L_t))",
    "std_log_sharpness": "raw s_t: Std(log s_t)",
    "std_sharpness": "raw s_t: Std(s_t)",
    "mean_sharpness": "raw s_t: Mean(s_t)",
    "log_loss": "Std(log L_t), of the same draws, no gradient",
    "mean_loss": "Mean(L_t), of the same draws, no gradient",
    "static_sam": "full-dataset SAM sharpness, first order",
    "static_asam": "full-dataset ASAM sharpness (all parameters), first order",
    "static_sam_ascent": "loss increase at the SAM perturbation",
    "static_asam_ascent": "loss increase at the ASAM perturbation",
    "worst_case": "magnitude-aware worst-case sharpness",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}
"""Names of the measures, and what tables call them. Larger is worse, except for accuracies."""

DRAWN: dict[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    "directional": lambda s, loss, eps: float(np.std(np.log(s**2 / loss + eps))),
    "std_log_sharpness": lambda s, loss, eps: float(np.std(np.log(s))),
    "std_sharpness": lambda s, loss, eps: float(np.std(s)),
    "mean_sharpness": lambda s, loss, eps: float(np.mean(s)),
    "log_loss": lambda s, loss, eps: float(np.std(np.log(loss))),
    "mean_loss": lambda s, loss, eps: float(np.mean(loss)),
}
"""The numbers of a draw, from s_t [T], L_t [T] and eps: the score, three of the raw s_t, two controls of the losses."""

RAW = ("std_log_sharpness", "std_sharpness", "mean_sharpness")
"""Of the raw s_t: the paper does not say which statistic it means."""

ALL = ("directional", "static_sam", "static_asam", "worst_case", "train_loss", "test_accuracy")
WORST_CASE_SAMPLES = 1000
"""Worst-case sharpness is taken on so many of the samples, if there are more and its options do not say otherwise."""


def draw(x: Tensor, y: Tensor, probe: Probe, seed: str) -> tuple[Tensor, Tensor]:
    """The mini-batches [T, B, ...] that `zkcert measure --seed SEED` would draw from a dataset of these samples."""
    indices = sample_indices(blake3(seed.encode()).digest(), len(x), probe.steps * probe.batch_size)
    index = torch.tensor(indices).reshape(probe.steps, probe.batch_size)
    return x[index], y[index]


def trajectories(
    network: Network, x: Tensor, y: Tensor, probe: Probe, seeds: Sequence[int | str]
) -> list[Trajectory | None]:
    """The probe on one draw per seed; None where the draw fails, see `failures`."""
    found: list[Trajectory | None] = []
    for seed in seeds:
        batches = draw(x, y, probe, str(seed))
        try:
            found.append(trajectory(network, *batches, probe))
        except UnusableInput:
            found.append(None)
    return found


def drawn(network: Network, x: Tensor, y: Tensor, probe: Probe, seeds: Sequence[int | str]) -> dict[str, np.ndarray]:
    """Each of `DRAWN` for each draw, [draws]; infinite where the draw fails, see `failures`."""
    found, eps = trajectories(network, x, y, probe, seeds), float(probe.eps)
    return {
        name: np.array([math.inf if t is None else number(t.sharpness, t.loss, eps) for t in found], float)
        for name, number in DRAWN.items()
    }


def scores(network: Network, x: Tensor, y: Tensor, probe: Probe, seeds: Sequence[int | str]) -> np.ndarray:
    """The score of each draw; infinite where it fails, see `failures`."""
    return drawn(network, x, y, probe, seeds)["directional"]


def measure_all(
    network: Network,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
    probe: Probe,
    seeds: Sequence[int | str],
    *,
    which: Sequence[str] = ALL,
    rho: float = 0.05,
    worst_case: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """The measures `which` of `MEASURES`, by name; of those that are drawn each draw, too, as "directional/0" etc.

    train   inputs and labels [n, ...] that the sharpness measures and the training loss are taken on.
    test    of the test measures; None if none is asked for.
    seeds   of the probe's draws.
    rho     radius of static sharpness; worst_case: options of `zkcert.metric.worst_case.worst_case_sharpness`.

    Samples are on the CPU, in the network's dtype. Raises UnusableInput.
    """
    if unknown := set(which) - set(MEASURES):
        raise UnusableInput(f"unknown measures {', '.join(sorted(unknown))}")
    found: dict[str, float] = {}
    statics: dict[str, StaticSharpness] = {}
    of_draws: dict[str, np.ndarray] = {}
    for name in which:
        if name in DRAWN:
            of_draws = of_draws or drawn(network, *train, probe, seeds)
            found[name] = float(of_draws[name].mean())
            found |= {f"{name}/{i}": float(value) for i, value in enumerate(of_draws[name])}
            continue
        match name.split("_"):
            case ["static", kind, *rest]:
                variant = {"sam": "sam", "asam": "asam-all"}[kind]
                if variant not in statics:
                    statics[variant] = sharpness(network, *train, variant=variant, rho=rho)
                found[name] = statics[variant].ascent if rest else statics[variant].first_order
            case ["worst", "case"]:
                options = {"subset": min(WORST_CASE_SAMPLES, len(train[0])), **(worst_case or {})}
                found[name] = worst_case_sharpness(network, *train, **options).sharpness
            case [where, what]:
                samples = train if where == "train" else test
                if samples is None:
                    raise UnusableInput(f"{name} needs test samples")
                found[name] = (mean_loss if what == "loss" else accuracy)(network, *samples)
    return found
