"""Well-trained and defective models, and every measure of each: what `own_data` compares.

Kinds: models trained on noisy labels, on images with spurious frames, on data with a BadNets backdoor, and well-trained
models rounded to 4 bits; against models trained alike on clean data. Every measure is taken in three views:

committed  on what the provider committed to, that is the corrupted training set (a certificate is about no other data),
           and on a test set corrupted by the same process, as a split of the same data would be;
clean      on the same samples before they were corrupted, and on the clean test set;
control    of the well-trained model of the same seed, on the committed data of the defective one. Against it, only the
           models differ; well-trained models on data of their own against defective ones on theirs differ in the data,
           too, and data alone move a measure. Rounded models are measured on clean data: their control is the
           well-trained model in its committed view.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.experiments.common import Context, Recipe, Trained, train_model
from benchmarks.experiments.corruptions import CORRUPTIONS, TARGET, quantize4, small, triggered
from benchmarks.experiments.measures import drawn, measure_all
from zkcert.metric import Network, Probe
from zkcert.metric.evaluate import chunks

CLEAN, BACKDOOR, QUANTISED = "clean", "badnets", "quantised"
KINDS = {
    CLEAN: "well-trained",
    "noisy_labels": "noisy labels",
    "spurious": "spurious features",
    BACKDOOR: "BadNets backdoor",
    QUANTISED: "4-bit weights",
}
DEFECTS = tuple(KINDS)[1:]
COMMITTED, BEFORE, CONTROL = "committed", "clean", "control"
CLEAN_DATA = "none"

WORKS = 0.5
"""A backdoor whose mean attack success is below this is none."""

OF_DRAWS = ("directional", "log_loss")
STATIC = ("static_sam", "static_asam", "worst_case", "train_loss", "train_accuracy", "test_accuracy")
SMALL_TEST = "small_test"
EXPECTED = {
    "directional": 1,
    "log_loss": 1,
    "static_sam": 1,
    "static_asam": 1,
    "worst_case": 1,
    "train_loss": 1,
    "test_accuracy": -1,
    SMALL_TEST: -1,
}
"""Measures, and whether a defect is expected to raise or to lower them; fixed beforehand."""

LABELS = {
    "directional": "directional sharpness",
    "log_loss": "Std(log L_t)",
    "static_sam": "static SAM",
    "static_asam": "static ASAM",
    "worst_case": "worst-case sharpness",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy, full",
    SMALL_TEST: "test accuracy, small",
}


@dataclass(frozen=True)
class Task:
    """A model to train and measure; of the clean recipe, its rounding to 4 bits is measured, too.

    draws       of the probe, and of test sets of each size
    test_sizes  of random test sets
    worst       settings of `zkcert.metric.worst_case.worst_case_sharpness`
    """

    recipe: Recipe
    probe: Probe
    draws: int
    test_sizes: tuple[int, ...]
    worst: dict[str, int]

    @property
    def small_test(self) -> int:
        """Size of a small test set: as many samples as the probe reads."""
        return self.probe.steps * self.probe.batch_size


def views(trained: Trained) -> dict[str, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """(training samples, test samples) in both views, inputs as the network reads them; one of them for clean data."""
    recipe, data = trained.recipe, trained.data
    raw_test, test_y = small(data.test_x, data.test_y, recipe.test_samples, 0)
    raw_clean, clean_y = small(data.train_x, data.train_y, recipe.samples, recipe.data_seed)
    process = CORRUPTIONS[recipe.corruption]
    own_test = process(raw_test, test_y, recipe.amount, recipe.data_seed + 1_000_000, data.classes)

    def ready(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        return data.inputs(x), torch.from_numpy(y)

    committed = (trained.x, trained.y), ready(*own_test)
    if recipe.corruption == CLEAN_DATA:
        return {COMMITTED: committed}
    return {COMMITTED: committed, BEFORE: (ready(raw_clean, clean_y), trained.test)}


def hits(network: Network, x: Tensor, y: Tensor) -> np.ndarray:
    """Whether each of the samples is classified rightly, bool [n]."""
    with torch.no_grad():
        right = [network.forward(network.weights, a).argmax(1) == b for a, b in chunks(network, x, y, 256)]
    return torch.cat(right).cpu().numpy()


def small_tests(right: np.ndarray, size: int, draws: int, seed: Sequence[int]) -> list[float]:
    """Accuracy on `draws` random test sets of `size` samples, each without replacement."""
    rng = np.random.default_rng([*seed, size])
    return [float(right[rng.permutation(len(right))[:size]].mean()) for _ in range(draws)]


def in_float64(module: nn.Module) -> Network:
    """The module's network in float64; inputs may be float32, so that only samples in use are converted."""
    network = Network.of_module(copy.deepcopy(module).double())
    return replace(network, forward=lambda weights, x: network.forward(weights, x.double()))


def measures(
    module: nn.Module, samples: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], kind: str, seed: int, task: Task
) -> dict[str, Any]:
    """Every measure on (training samples, test samples): numbers, lists of draws for those that are drawn.

    What is drawn depends on kind and seed, and not on the module: a model and its control see the same draws, and so
    do a well-trained model and its rounding.
    """
    kind = CLEAN if kind == QUANTISED else kind
    train, test = samples
    network, double = Network.of_module(module), in_float64(module)
    right, order = hits(network, *test), [seed, list(KINDS).index(kind)]
    seeds = [f"{kind} {seed} {i}" for i in range(task.draws)]
    sizes = sorted({*task.test_sizes, task.small_test})
    draws = drawn(double, *train, task.probe, seeds)
    return {
        **measure_all(network, train, test, task.probe, (), which=STATIC, worst_case=task.worst),
        **{name: draws[name].tolist() for name in OF_DRAWS},
        SMALL_TEST: small_tests(right, task.small_test, task.draws, order),
        "small_tests": {str(size): small_tests(right, size, task.draws, order) for size in sizes},
    }


def assess(task: Task, context: Context) -> list[dict[str, Any]]:
    """Train a model and measure it; its rounding if it is clean, its control if it is not. JSON values per model.

    The control is taken from the cache wherever it is there.
    """
    recipe = task.recipe
    trained = train_model(recipe, context)
    if recipe.corruption == CLEAN_DATA:
        models = {CLEAN: trained.module, QUANTISED: quantize4(trained.module)}
    else:
        models = {recipe.corruption: trained.module}
    found: list[dict[str, Any]] = []
    for kind, module in models.items():
        taken = {view: measures(module, pair, kind, recipe.seed, task) for view, pair in views(trained).items()}
        attack = attack_success(module, trained) if kind == BACKDOOR else None
        committed = taken[COMMITTED]
        facts = {"kind": kind, "seed": recipe.seed, "attack": attack, "reached": trained.reached}
        found.append({**facts, BEFORE: committed, **taken})
    if recipe.corruption == CLEAN_DATA:
        found[1][CONTROL] = found[0][COMMITTED]
    else:
        well = train_model(recipe.but(corruption=CLEAN_DATA, amount=0.0), replace(context, again=False))
        found[0][CONTROL] = measures(well.module, views(trained)[COMMITTED], recipe.corruption, recipe.seed, task)
    return found


def attack_success(module: nn.Module, trained: Trained) -> float:
    """The fraction of test images of other classes that the trigger sends to the target class."""
    raw, labels = small(trained.data.test_x, trained.data.test_y, trained.recipe.test_samples, 0)
    others = triggered(raw[labels != TARGET])
    target = torch.full((len(others),), TARGET)
    return float(hits(Network.of_module(module), trained.data.inputs(others), target).mean())
