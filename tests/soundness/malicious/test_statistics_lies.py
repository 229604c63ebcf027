"""Lies about normalisation by a sample's own statistics."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from circuits.layers.groupnorm import GroupNorm
from prover.argument import prove_circuit
from prover.execution.layers.groupnorm import GroupNormExecutor
from tests.builders import Graph, standardised
from tests.soundness.malicious.forging import altered, honest, name_of_altered_digit, strict_name, transcript
from tests.soundness.malicious.test_lies import lying_name
from verifier.argument import verify_circuit

FIRST = "groupnorm0"  # of the samples, so it hands nothing back
DIGITS = {
    (f"{FIRST}/mean", 0): f"{FIRST}/mean",
    (f"{FIRST}/mean.remainder", 0): f"{FIRST}/mean",
    (f"{FIRST}/squares", 1): f"{FIRST}/squares",
    (f"{FIRST}/v", 0): f"{FIRST}/root",
    (f"{FIRST}/a", 0): f"{FIRST}/root",
    (f"{FIRST}/a2", 1): f"{FIRST}/root",
    (f"{FIRST}/low", 3): f"{FIRST}/root",
    (f"{FIRST}/high", 2): f"{FIRST}/root",
    (f"{FIRST}/h", 0): f"{FIRST}/normalised",
    (f"{FIRST}/y", 0): f"{FIRST}/forward",
    (f"weight/{FIRST}.weight", 0): f"{FIRST}/forward",
    (f"weight/{FIRST}.bias", 1): f"{FIRST}/forward",
    ("groupnorm2/e", 1): "groupnorm2/scaled",
    ("groupnorm2/m1", 0): "groupnorm2/m1",
    ("groupnorm2/m1.remainder", 0): "groupnorm2/m1",
    ("groupnorm2/m2", 0): "groupnorm2/m2",
    ("groupnorm2/m2.remainder", 2): "groupnorm2/m2",
    ("groupnorm2/slope", 0): "groupnorm2/slope",
    ("groupnorm2/dx", 1): "groupnorm2/input-gradient",
    ("gradient/groupnorm2.weight", 0): "gradient/groupnorm2.weight",
    ("gradient/groupnorm2.bias", 0): "gradient/groupnorm2.bias",
}


@pytest.fixture(scope="module")
def own():
    """An honest witness."""
    return honest(standardised())


def test_the_honest_one_is_proved(own):
    verify_circuit(own.layout, transcript(), prove_circuit(own.layout, own.witness, transcript()))


@pytest.mark.parametrize("where", DIGITS, ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_is_named(own, where):
    tensor, digit = where
    assert name_of_altered_digit(own, tensor, digit) == f"constraint/{DIGITS[where]}"


def layer_of(own, name: str) -> GroupNorm:
    return next(x for x in own.certificate.layers if x.name == name)


def put_root(w, layer: GroupNorm, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take `a` for A in the first pass, and zero for a slack that is negative; both slacks."""
    digits = enumerate(layer.v.tensor.digits)
    m = sum(w.digit(layer.v.tensor, i, 0).astype(object) << d.shift for i, d in digits) + layer.epsilon
    low, high = (layer.n << 128) - a * a * m, (a + 1) * (a + 1) * m - (layer.n << 128) - 1
    values = (a, a * a, np.maximum(low, 0), np.maximum(high, 0))
    for t, value in zip((layer.a.tensor, *(v.tensor for v in (layer.aa, layer.low, layer.high))), values, strict=True):
        w.put(t, value, 0)
    return low, high


@pytest.mark.parametrize("sign", [-1, 1])
def test_another_root_is_named(own, sign):
    """A off by one with everything that follows from it filled again: one of the two slacks would be negative."""
    layer, w = layer_of(own, FIRST), own.witness
    tensors = [layer.a.tensor, *(v.tensor for v in (layer.aa, layer.low, layer.high))]
    with altered(w, *tensors):
        low, high = put_root(w, layer, w.value(layer.a.tensor, 0).astype(object) + sign)
        assert (low < 0).any() or (high < 0).any()
        assert strict_name(own.layout, w, layer.a.tensor) == f"constraint/{FIRST}/root"


def test_the_negative_root_is_named(own):
    """-A - 1 has the same squares the other way round, and is no root."""
    layer, w = layer_of(own, FIRST), own.witness
    tensors = [layer.a.tensor, *(v.tensor for v in (layer.aa, layer.low, layer.high))]
    with altered(w, *tensors):
        put_root(w, layer, -w.value(layer.a.tensor, 0).astype(object) - 1)
        assert strict_name(own.layout, w, layer.a.tensor) == f"constraint/{FIRST}/root"


def test_statistics_of_a_whole_batch_are_named():
    """The prover takes means over the batch, as a batch-norm in training does."""
    honest_summed = GroupNormExecutor._summed

    def summed(self, x):
        found = honest_summed(self, x)
        return np.broadcast_to(found.sum(axis=0) // len(found), found.shape).copy()

    lie = mock.patch.object(GroupNormExecutor, "_summed", summed)
    assert lying_name(standardised(), lie) == f"constraint/{FIRST}/mean"


def test_statistics_of_another_group_are_named():
    """The prover interleaves channels: channel c belongs to group c modulo their number."""
    g = Graph(np.random.default_rng(4), [1, 2, 2]).conv(4, (1, 1)).group_norm(2).flatten().linear(3)
    honest_grouped = GroupNormExecutor._grouped

    def grouped(self, x):
        return honest_grouped(self, x).swapaxes(1, 2).reshape(honest_grouped(self, x).shape)

    lie = mock.patch.object(GroupNormExecutor, "_grouped", grouped)
    assert lying_name(g.case(batch=2), lie) == "constraint/groupnorm1/mean"


def test_a_gradient_that_takes_statistics_as_constants_is_named():
    """dx = A e, as if mean and deviation did not depend on the input."""
    honest_put = GroupNormExecutor._put_mean

    def put_mean(self, v, out, rest, w, p):
        honest_put(self, v, out, rest, w, p)
        if out is getattr(self.layer, "m1", None):
            w.put(out.tensor, np.zeros(out.shape, np.int64), p)

    lie = mock.patch.object(GroupNormExecutor, "_put_mean", put_mean)
    assert lying_name(standardised(), lie).endswith("/m1")
