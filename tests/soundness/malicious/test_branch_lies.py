"""Lies about products of branches, learned slopes, and a single logit."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from prover.argument import prove_circuit
from prover.execution import run, values
from prover.execution.layers import multiply, prelu
from prover.execution.layers.multiply import MultiplyExecutor
from prover.execution.layers.prelu import PReLUExecutor
from prover.execution.values import read_value
from tests.branching import learned, products
from tests.soundness.malicious.forging import altered, honest, name_of_altered_digit, strict_name, transcript
from tests.soundness.malicious.test_lies import lying_name
from verifier.argument import verify_circuit

CASES = {make.__name__: make for make in (products, learned)}


@pytest.fixture(scope="module")
def made():
    """Honest witnesses by name."""
    return {name: honest(make()) for name, make in CASES.items()}


def layer_of(own, name):
    return next(layer for layer in own.certificate.layers if layer.name == name)


DIGITS = {
    ("products", "multiply2/y", 0): "multiply2/forward",
    ("products", "relu9/magnitude", 1): "multiply8/forward",
    ("products", "multiply2/dx0", 0): "multiply2/input-gradient0",
    ("products", "multiply8/dx0", 1): "multiply8/input-gradient0",
    ("products", "multiply8/dx1", 0): "multiply8/input-gradient1",
    ("products", "multiply15/dx1", 0): "multiply15/input-gradient1",
    ("learned", "weight/prelu0.weight", 0): "prelu0/forward",
    ("learned", "prelu0/positive", 0): "prelu0/sign",
    ("learned", "prelu2/sign", 0): "prelu2/sign",
    ("learned", "prelu5/magnitude", 1): "prelu5/sign",
    ("learned", "prelu5/y", 0): "prelu5/forward",
    ("learned", "relu3/magnitude", 0): "prelu2/forward",
    ("learned", "prelu8/kept", 0): "prelu8/kept",
    ("learned", "prelu13/dx", 1): "prelu13/input-gradient",
    ("learned", "gradient/prelu0.weight", 0): "gradient/prelu0.weight",
    ("learned", "gradient/prelu11.weight", 0): "gradient/prelu11.weight",
}


@pytest.mark.parametrize("where", DIGITS, ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_is_named(made, where):
    name, tensor, digit = where
    own = made[name]
    assert name_of_altered_digit(own, tensor, digit) == f"constraint/{DIGITS[where]}"


@pytest.mark.parametrize("name", CASES)
def test_each_is_proved(made, name):
    own = made[name]
    verify_circuit(own.layout, transcript(), prove_circuit(own.layout, own.witness, transcript()))


# ------------------------------------------------------------------------------------------------ products


def test_the_gate_of_another_channel_is_named(made):
    """The prover multiplies each channel by its neighbour's gate."""

    def turned(v, w, p):
        limbs = values.value_limbs(v, w, p)
        return [np.roll(d, 1, axis=1) for d in limbs] if v.shape[2:] == (1,) and v.shape[1] == 2 else limbs

    lie = mock.patch.object(multiply, "value_limbs", turned)
    assert lying_name(made["products"].case, lie) == "constraint/multiply2/forward"


def test_a_gate_whose_gradient_leaves_positions_out_is_named(made):
    """Its gradient is the exact sum over all of them."""
    single = multiply.Multiply.single

    def products_of(a, b):
        limbs = multiply_products(a, b)
        if a[0].shape != b[0].shape or a[0].shape[2:] != (9,):
            return limbs
        return [np.where(np.arange(9) == 8, 0, d) for d in limbs]

    multiply_products = multiply.limb_products
    gradient = MultiplyExecutor._gradient

    def of_gates(self, w, p, dx, run, other):
        with mock.patch.object(multiply, "limb_products", products_of if single(self.layer, dx) else multiply_products):
            gradient(self, w, p, dx, run, other)

    lie = mock.patch.object(MultiplyExecutor, "_gradient", of_gates)
    assert lying_name(made["products"].case, lie) == "constraint/multiply8/input-gradient0"


def test_a_gradient_by_the_wrong_factor_is_named(made):
    """Both inputs get the gradient of the first."""
    gradient = MultiplyExecutor._gradient

    def wrong(self, w, p, dx, run, other):
        second = self.layer.branches[1]
        gradient(self, w, p, dx, run, second if self.layer.name == "multiply13" else other)

    lie = mock.patch.object(MultiplyExecutor, "_gradient", wrong)
    assert lying_name(made["products"].case, lie) == "constraint/multiply13/input-gradient1"


# ------------------------------------------------------------------------------------------------ learned slopes


def test_a_negative_value_that_passes_whole_is_named(made):
    """Its bit says that it is positive, and the output follows; the positive part would be negative."""
    own = made["learned"]
    layer, w = layer_of(own, "prelu0"), own.witness
    tensors = [v.tensor for v in (layer.y, layer.positive, layer.bit, layer.magnitude)]
    z = read_value(layer.x, w, 0)
    at = 0, *np.argwhere(z < 0)[0]
    with altered(w, *tensors):
        for t, value in zip(tensors, (z[at[1:]], z[at[1:]], 1, 0), strict=True):
            changed = w.value(t)
            changed[at] = value
            w.put(t, changed)
        assert strict_name(own.layout, w, *tensors) == "constraint/prelu0/sign"


def test_the_slope_of_another_pass_is_named(made):
    """The prover computes second passes with the slope that was not perturbed."""
    honest_scale = PReLUExecutor._times_slope

    def scale(self, w, p, *args):
        digits = w.digits
        with mock.patch.object(w, "digits", lambda t, q: digits(t, 0 if t is self.layer.weight else q)):
            honest_scale(self, w, p, *args)

    lie = mock.patch.object(PReLUExecutor, "_times_slope", scale)
    assert lying_name(made["learned"].case, lie) == "constraint/prelu0/forward"


def test_a_slope_whose_gradient_counts_positive_values_is_named(made):
    """It is the sum over what is below zero."""
    honest_limbs = prelu.value_limbs

    def limbs(v, w, p):
        return honest_limbs(layer.x if v == layer.negative else v, w, p)

    layer = layer_of(made["learned"], "prelu13")
    backward = PReLUExecutor.backward

    def counting(self, w, p):
        nonlocal layer
        layer = self.layer
        with mock.patch.object(prelu, "value_limbs", limbs):
            return backward(self, w, p)

    lie = mock.patch.object(PReLUExecutor, "backward", counting)
    assert lying_name(made["learned"].case, lie) == "constraint/gradient/prelu13.weight"


# ------------------------------------------------------------------------------------------------ a single logit


def test_a_logit_that_changes_places_with_zero_is_named(made):
    """Then the probability would be that of the other class."""
    honest_placed = values.placed

    def placed(part, x):
        found = honest_placed(part, x)
        return found[:, ::-1] if part.channels == (-1, 0) else found

    lie = mock.patch.object(values, "placed", placed)
    assert lying_name(made["learned"].case, lie) == "constraint/softmax"


def test_labels_that_change_places_are_named(made):
    """Every loss and gradient follows from the wrong ones."""
    fill = run.fill_samples

    def swapped(samples, w, *data):
        fill(samples, w, *data)
        w.put(samples.onehot, 1 - w.value(samples.onehot))

    assert lying_name(made["learned"].case, mock.patch.object(run, "fill_samples", swapped)) == "constraint/label"
