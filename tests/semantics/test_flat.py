"""Good models are not refused: networks trained until they are flat, or until they fit perfectly, are proved."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from circuits.head.constants import ONE
from circuits.head.softmax import MIN_LOSS
from prover.execution.head.softmax import GradientTooSmall
from prover.prove import prove_statement
from verifier.verify import Expectations, verify_proof
from zkcert.api.metric import LEAST_LOSS, measure
from zkcert.api.proving import CROSS_CHECK_LIMIT
from zkcert.convert import from_module
from zkcert.data.committed import CommittedDataset, commit
from zkcert.metric import Trajectory, directional_sharpness
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.statement import Statement
from zkcert.zoo import mlp, train

CONFIG = ProbeConfig(steps=2, batch_size=4)
TAU = Fraction(30)
CLASSES = 3
SIDE = 4


@cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """Forty-eight noisy images of three kinds: uint8 [48, 1, 4, 4], and their labels."""
    rng = np.random.default_rng(1)
    labels = np.arange(48) % CLASSES
    kinds = rng.integers(60, 196, (CLASSES, 1, SIDE, SIDE))
    return (kinds[labels] + rng.integers(-40, 41, (48, 1, SIDE, SIDE))).astype(np.uint8), labels


@cache
def dataset() -> CommittedDataset:
    with tempfile.TemporaryDirectory() as folder:
        x, y = images()
        np.savez(f"{folder}/data.npz", x=x, y=y)
        commit(f"{folder}/data.npz", f"{folder}/data.zkd")
        return CommittedDataset.open(f"{folder}/data.zkd")


def trained(**options: Any) -> Model:
    """A network of one hidden layer after `zkcert.zoo.train` on the images, in float64."""
    pixels, labels = images()
    module = mlp(SIDE * SIDE, [8], CLASSES).double()
    x = (torch.tensor(pixels, dtype=torch.float64) / 255 - 0.5) / 0.25
    train(module, x, torch.tensor(labels), batch_size=len(x), **options)
    return from_module(module, input={"shape": [1, SIDE, SIDE], "pad": 0, "mean": [0.5], "std": [0.25]})


def flat() -> Model:
    """Sharpness-aware training with a large radius: ||T g|| is about .03 on every batch."""
    return trained(epochs=60, optimizer="sam", lr=0.05, rho=1.0)


@cache
def fitted() -> Model:
    """Trained until nothing is left to learn: losses of batches from 1e-11 to 1e-6."""
    return trained(epochs=400, optimizer="adam", lr=0.1, until_loss=1e-7)


def measured(model: Model, statement: Statement) -> Trajectory:
    """In float64, on the statement's samples."""
    indices = statement.indices()
    shape = (CONFIG.steps, CONFIG.batch_size)
    pixels = dataset().images(indices)
    labels = dataset().labels(indices).reshape(shape)
    return directional_sharpness(model, pixels.reshape(*shape, *pixels.shape[1:]), labels, CONFIG)


def draw(model: Model, low: float, high: float) -> tuple[Statement, Trajectory]:
    """The first beacon that draws flat batches with losses in this range; the root is another at each run."""
    statement = Statement.of(model, dataset().root, CONFIG, TAU)
    for beacon in range(2000):
        drawn = replace(statement, beacon=beacon.to_bytes(2, "big"))
        found = measured(model, drawn)
        flat = (found.sharpness < 2 * CONFIG.rho**2).all()  # ||T g|| < 2 rho
        if flat and all(low < loss < high for loss in found.loss):
            return drawn, found
    raise AssertionError("no batches are so flat and have such losses")


@pytest.mark.parametrize(
    ("make", "low", "high", "tolerance"), [(flat, 0.1, 2.0, 1e-8), (fitted, 3e-10, 3e-9, CROSS_CHECK_LIMIT)]
)
def test_a_network_trained_to_be_flat_or_to_fit_perfectly_is_proved(make, low, high, tolerance):
    model = make()
    statement, found = draw(model, low, high)
    proved = prove_statement(statement, model, dataset())
    verify_proof(proved.data, model, Expectations(TAU))
    assert np.allclose(np.array(proved.trace.ys) / 2.0**32, found.log_ratio, rtol=0, atol=tolerance)
    assert abs(proved.trace.score - found.score) < tolerance


def sharpened(model: Model, factor: float) -> Model:
    """The same answers, with logits that many times larger."""
    last = model.graph[-1]
    scaled = {name: model.params[name] * factor for name in (last["weight"], last["bias"])}
    return Model(model.graph, model.input, model.params | scaled)


def test_a_loss_without_significant_bits_is_refused_in_a_line_that_says_what_to_do():
    model = sharpened(fitted(), 3)
    statement = Statement.of(model, dataset().root, CONFIG, TAU)
    with pytest.raises(GradientTooSmall, match=r"^step 0: .*2\.33e-10.*last layer") as refused:
        prove_statement(statement, model, dataset())
    assert "\n" not in str(refused.value)


def test_measure_warns_of_losses_that_are_refused(tmp_path):
    pixels, labels = images()
    np.savez(tmp_path / "data.npz", x=pixels, y=labels)
    model = fitted()
    for factor, warnings in ((1.0, 1), (0.5, 0)):
        sharpened(model, factor).save(tmp_path / f"{factor}.pt")
        found = measure(tmp_path / f"{factor}.pt", tmp_path / "data.npz", config=CONFIG, draws=20)
        assert [text[:12] for text in found.warnings] == ["NOT PROVABLE"] * warnings
    assert LEAST_LOSS == MIN_LOSS / ONE
