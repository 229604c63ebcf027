"""Lies about certified statistics of s_t, about ddof, and about |w| + eta: what each of their constraints is for."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from unittest import mock

import numpy as np
import pytest

from prover.argument import prove_circuit
from prover.execution.head.score import SharpnessExecutor
from prover.execution.probe import ParameterExecutor
from prover.execution.witness import Witness
from tests.soundness.honest import CASES
from tests.soundness.malicious.forging import (
    Honest,
    altered,
    full_name,
    honest,
    lying_threshold,
    name_of_altered_digit,
    other_digit,
    strict_name,
    transcript,
    verdict,
)
from tests.soundness.malicious.test_lies import after, lying_name, wrapping_put
from verifier.argument import verify_circuit
from zkcert.errors import RangeOverflow

NAMES = ("std of s", "rms of s", "max of s", "ddof")


@cache
def made(name: str) -> Honest:
    return honest(CASES[name]())


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_proof_is_accepted(name):
    s = made(name)
    verify_circuit(s.layout, transcript(), prove_circuit(s.layout, s.witness, transcript(), strict=True))


DIGITS = {
    ("std of s", "score/scaled-norm", 3): "score/roots",
    ("std of s", "score/y", 0): "score/roots",
    ("std of s", "score/y2", 1): "score/roots",
    ("std of s", "score/low", 2): "score/roots",
    ("std of s", "score/high", 2): "score/roots",
    ("std of s", "score/sum", 0): "score/threshold",
    ("std of s", "score/squares", 2): "score/squares",
    ("std of s", "score/slack", 0): "score/threshold",
    ("rms of s", "score/squares", 0): "score/squares",
    ("rms of s", "score/slack", 5): "score/threshold",
    ("max of s", "score/slack", 1): "score/threshold",
    ("ddof", "score/slack", 0): "score/threshold",
    ("rms of s", "sign/linear1.bias", 0): "sign/linear1.bias",
    ("rms of s", "magnitude/linear3.weight", 0): "sign/linear3.weight",
    ("rms of s", "E/linear1.bias", 0): "E/linear1.bias",
    ("std of s", "V/linear3.weight", 1): "V/linear3.weight",
    ("std of s", "gradient/linear1.bias", 0): "gradient/linear1.bias",  # no weight by name: T_w is 1 there
}


@pytest.mark.parametrize("where", DIGITS, ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_is_named(where):
    name, tensor, digit = where
    assert name_of_altered_digit(made(name), tensor, digit) == f"constraint/{DIGITS[where]}"


def test_only_what_is_called_a_weight_is_scaled():
    names = {t.name for t in made("std of s").certificate.circuit.tensors}
    assert {"E/linear1.weight", "sign/linear3.weight"} <= names
    assert not {"E/linear1.bias", "V/linear3.bias", "sign/linear1.bias"} & names


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("shift", [-1, 1, -(1 << 40)])
def test_another_root_is_named(name, shift):
    """All that follows from it is honest; of the two slacks one would be negative, and is called zero."""

    def value(self, y, *_):
        return max(y + shift, 0)

    put = Witness.put

    def clipped(self, t, values, *rest):
        if t.name in ("score/low", "score/high"):
            values = np.maximum(values, 0)
        put(self, t, values, *rest)

    patches = (after(SharpnessExecutor, "value", value), mock.patch.object(Witness, "put", clipped))
    assert lying_name(CASES[name](), *patches) == "constraint/score/roots"


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_norm_scaled_for_another_k_is_named(name):
    """A fourth of the norm halves s_t, with a root that fits."""

    root, fill = SharpnessExecutor.value, SharpnessExecutor.fill_values

    def value(self, n, loss, k):
        return root(self, n // 4, loss, k)

    def fill_values(self, w, n, losses, scales, ys):
        fill(self, w, n // 4, losses, scales, ys)

    assert lying_name(CASES[name](), mock.patch.multiple(SharpnessExecutor, value=value, fill_values=fill_values)) == (
        "constraint/score/roots"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_threshold_below_the_score_is_named(name):
    certificate, layout, w, trace = lying_threshold(CASES[name]())
    score, kind = certificate.score, trace.statistic
    if kind.name == "max":
        slacks = [score.tau - y for y in trace.ys]
        assert min(slacks) < 0
        invented = [[max(s, 0) for s in slacks], [abs(s) for s in slacks], [s % (1 << 66) for s in slacks]]
    else:
        slack = kind.weight * score.tau**2 - kind.gathered(trace.ys)
        assert slack < 0
        invented = [[0], [-slack], [slack % (1 << 22 * len(score.slack.tensor.digits))]]
    for values in invented:
        w.put(score.slack.tensor, np.array(values, object))
        with mock.patch.object(Witness, "put", wrapping_put):
            w.fill_carries_in(score.threshold)
        assert strict_name(layout, w) == "constraint/score/threshold"


@pytest.mark.parametrize("name", ["std of s", "max of s"])
def test_a_lie_falls_to_the_verifier(name):
    s = made(name)
    t = s.tensor("score/y")
    with altered(s.witness, t) as (digits,):
        at = digits.at(0, 0)
        digits[at] = other_digit(int(digits[at]), t.digits[0].range)
        assert verdict(s.layout, s.witness)


def test_a_negative_slack_fits_no_digits():
    certificate, layout, w, trace = lying_threshold(CASES["max of s"]())
    slack = certificate.score.slack.tensor
    values = np.array([certificate.score.tau - y for y in trace.ys], object)
    with pytest.raises(RangeOverflow):
        w.put(slack, values)
    digits = [(values >> 22 * i) & ((1 << 22) - 1) for i in range(2)]
    for i, digit in enumerate([*digits, values >> 44]):
        w.write(slack, i, digit.astype(np.int64)[None])
    w.fill_carries_in(certificate.score.threshold)
    assert full_name(layout, w) == "range-check/roots"


def test_ddof_is_not_a_witness_of_the_population():
    """What is below tau with ddof 0 may be above it with ddof 1: the slack is that of T (T - ddof)."""
    case = CASES["ddof"]()
    _, _, trace = case.execute()
    ys = np.array(trace.ys) / 2.0**32
    assert trace.score == pytest.approx(np.std(ys, ddof=1), rel=1e-9)
    tau = Fraction(float(np.std(ys) + np.std(ys, ddof=1)) / 2)
    certificate, w, _ = case.execute(tau)
    score, kind = certificate.score, trace.statistic
    assert 9 * score.tau**2 > kind.gathered(trace.ys) > 6 * score.tau**2
    w.put(score.slack.tensor, np.array([9 * score.tau**2 - kind.gathered(trace.ys)], object))
    with mock.patch.object(Witness, "put", wrapping_put):
        w.fill_carries_in(score.threshold)
    assert strict_name(certificate.layout, w) == "constraint/score/threshold"


# ------------------------------------------------------------------------------------------------ |w| + eta


def test_a_scale_without_its_eta_is_named():
    lie = mock.patch.object(ParameterExecutor, "_shifted", lambda self, products, digits: products)
    assert lying_name(CASES["rms of s"](), lie).startswith("constraint/E/")


def test_a_scale_with_the_signed_weight_is_named():
    """w + eta in the place of |w| + eta: magnitude and sign are those of w, the products not."""
    original = ParameterExecutor._scale

    def signed(self, w, t, rows):
        original(self, w, t, rows)
        return w.digits(self.parameter.weight, 2 * t, rows)

    assert lying_name(CASES["rms of s"](), mock.patch.object(ParameterExecutor, "_scale", signed)).startswith(
        "constraint/E/"
    )


def test_a_smaller_magnitude_is_named():
    """Half of |w|, with products that fit it."""
    original = Witness.put

    def halved(self, t, values, *rest):
        if t.name == "magnitude/linear1.weight":
            values = values // 2
        original(self, t, values, *rest)

    lie = mock.patch.object(Witness, "put", halved)
    assert lying_name(CASES["rms of s"](), lie) == "constraint/sign/linear1.weight"


@pytest.mark.parametrize("weight", [0, 1, -1, 1 << 30, -(1 << 30)])
def test_a_weight_has_one_sign_and_magnitude(weight):
    """w = m + 1 for the bit 1 and -m for the bit 0: zero is not one more encoding."""
    fits = [(b, m) for b in (0, 1) for m in (abs(weight) - 1, abs(weight)) if m >= 0 and b * (2 * m + 1) - m == weight]
    assert len(fits) == 1 and sum(fits[0]) == abs(weight)
