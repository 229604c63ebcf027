"""Provers that lie about one thing and are honest about the rest: each is rejected, and the check is named.

A strict prover compares every hidden equation and every claim with its witness, in the circuit's order, so a lie is
named after the first constraint it breaks. `strict_name` skips the commitments and the range checks, which say nothing
about identities; `full_name` runs everything.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from circuits import lookups
from circuits.compile import Certificate, Trace
from circuits.head import exponential, logarithm, score, softmax
from circuits.head.score import SCALED_LOSS_LIMBS, Score, StepSize
from circuits.head.softmax import Softmax
from circuits.identities import constraint_claims
from circuits.ir import (
    BIT,
    Circuit,
    Digit,
    DomainAxis,
    ModularLink,
    PublicTensor,
    Same,
    View,
    balanced,
)
from circuits.layers.batchnorm2d import BatchNorm2d
from circuits.layers.maxpool2d import MaxPool2d
from circuits.layers.relu import Rectifier, ReLU
from circuits.layout import Layout
from circuits.probe import Parameter
from circuits.witness import Witness
from prover import argument, commit, trees
from prover.argument import prove_circuit
from prover.channel import Pads, ProverChannel
from prover.commit import ColumnTree, MatrixCommitment, SecondCommitment
from prover.oracle import ProverOracle
from prover.pads import PadCommitment
from prover.trees import Leaves
from tests.builders import Case, Digits, Graph, link_values, normalised, residual, tiny_cnn, tiny_mlp, violations
from tests.toys import certified, committed_vector, light_grinding, prove_toy, toy_layout, toy_witness, verify_toy
from verifier.argument import verify_circuit
from verifier.verify import Expectations, verify_proof
from zkcert.core import field as ff
from zkcert.core.code import MatrixCode, SecondCode
from zkcert.core.container import ProofFile
from zkcert.core.field import F, P
from zkcert.core.transcript import Transcript
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, ThresholdExceeded

TAU = Fraction(3)


@dataclass
class Honest:
    """A circuit with its honest witness."""

    case: Case
    certificate: Certificate
    layout: Layout
    witness: Witness
    trace: Trace

    def tensor(self, name, which=0):
        return [t for t in self.certificate.circuit.tensors if t.name == name][which]


def honest(case: Case) -> Honest:
    certificate, witness, trace = case.run(TAU)
    return Honest(case, certificate, certificate.layout, witness, trace)


@pytest.fixture(scope="module")
def cnn():
    return honest(tiny_cnn())


@pytest.fixture(scope="module")
def mlp():
    return honest(tiny_mlp())


@pytest.fixture(scope="module")
def branches():
    return honest(residual())


@pytest.fixture(scope="module")
def norms():
    return honest(normalised())


class NoCommitment:
    """A commitment nobody opens: strict proofs that fail early do not get that far."""

    root = bytes(32)
    masks = np.zeros((2, 4, 1), np.uint64)
    columns = mock.Mock()

    def __init__(self, *args):
        pass


def transcript():
    t = Transcript("malicious")
    t.absorb("statement", b"")
    return t


def reads(e):
    """The tensors an expression reads."""
    forms = [e.linear, *(f for pair in e.products for f in pair)]
    return {v.tensor for f in forms for v, _, _ in f.terms}


def strict_name(layout, witness, *tensors):
    """The first false constraint of a witness, by a strict proof without commitments and range checks.

    With `tensors`, only constraints that read one of them are looked at: the rest of the witness is honest.
    """

    def checked_claims(ch, oracle, con):
        if tensors and not any(reads(e) & set(tensors) for _, e in con.members):
            return []
        claims = constraint_claims(ch, oracle, con)
        oracle.check(claims, ch)
        return claims

    with (
        mock.patch("circuits.protocol.constraint_claims", checked_claims),
        mock.patch.object(argument, "MatrixCommitment", NoCommitment),
        mock.patch.object(argument, "PadCommitment", NoCommitment),
        mock.patch.object(argument, "count_multiplicities"),
        mock.patch("circuits.protocol.range_check", lambda *args: []),
        pytest.raises(ProofRejected) as caught,
    ):
        prove_circuit(layout, witness, transcript(), strict=True)
    return caught.value.check


def full_name(layout, witness):
    """The first check a complete strict proof fails."""
    with pytest.raises(ProofRejected) as caught:
        prove_circuit(layout, witness, transcript(), strict=True)
    return caught.value.check


def verdict(layout, witness):
    """The check by which the verifier rejects the proof of a prover who does not look."""
    proof = prove_circuit(layout, witness, transcript())
    with pytest.raises(ProofRejected) as caught:
        verify_circuit(layout, transcript(), proof)
    return caught.value.check


@contextmanager
def altered(witness, *tensors):
    """The witness, whose given tensors may be changed inside the block."""
    saved = [witness.array(t) for t in tensors]
    try:
        yield [Digits(witness, t) for t in tensors]
    finally:
        for t, old in zip(tensors, saved, strict=True):
            Digits(witness, t)[...] = old


def other_digit(value, rng):
    """The neighbour of a digit within its range."""
    return value + 1 if value < rng.hi else value - 1


# ------------------------------------------------------------------------------------------------ one digit at a time

# (tensor, which of that name, digit): the constraint that must be named
DIGITS = {
    ("sample/bytes", 0, 0): "input/channel0",
    ("sample/randomness", 0, 0): "link/sample",
    ("input", 0, 0): "input/channel0",
    ("input", 0, 1): "input/channel0",
    ("label", 0, 0): "label",
    ("weight/conv2d0.weight", 0, 0): "conv2d0/forward",
    ("weight/conv2d0.weight", 0, 1): "conv2d0/forward",
    ("weight/conv2d0.bias", 0, 0): "conv2d0/forward",
    ("weight/linear7.weight", 0, 0): "linear7/forward",
    ("linear7/z", 0, 0): "linear7/forward",
    ("linear7/z", 0, 1): "linear7/forward",
    ("z.remainder", 0, 0): "conv2d0/forward",
    ("z.remainder", 1, 1): "conv2d3/forward",
    ("conv2d3/forward/z.carry1", 0, 0): "conv2d3/forward",
    ("linear7/forward/z.carry2", 0, 1): "linear7/forward",
    ("relu1/y", 0, 0): "conv2d0/forward",
    ("relu1/sign", 0, 0): "conv2d0/forward",
    ("relu4/magnitude", 0, 0): "conv2d3/forward",
    ("relu4/magnitude", 0, 1): "conv2d3/forward",
    ("maxpool2d2/y", 0, 0): "maxpool2d2/forward",
    ("maxpool2d2/choice", 0, 0): "maxpool2d2/forward",
    ("maxpool2d2/slack", 0, 0): "maxpool2d2/forward",
    ("avgpool2d5/y", 0, 0): "avgpool2d5/forward",
    ("avgpool2d5/forward.remainder", 0, 0): "avgpool2d5/forward",
    ("softmax/max", 0, 0): "softmax",
    ("softmax/is-max", 0, 0): "softmax",
    ("softmax/x", 0, 0): "softmax",
    ("softmax/exp/low", 0, 0): "softmax",
    ("softmax/exp/chunks", 0, 0): "softmax",
    ("softmax/exp/far", 0, 0): "softmax",
    ("softmax/exp/far-rest", 0, 0): "softmax",
    ("softmax/exp/square.remainder", 0, 0): "softmax",
    ("softmax/exp/y2", 0, 1): "softmax",
    ("softmax/y3.carry2", 0, 0): "softmax",
    ("softmax/exp/value", 0, 2): "softmax",
    ("softmax/total", 0, 0): "softmax",
    ("softmax/p", 0, 0): "softmax",
    ("softmax/p.slack", 0, 0): "softmax",
    ("softmax/wrong", 0, 0): "softmax",
    ("softmax/missing", 0, 0): "softmax",
    ("softmax/true-delta", 0, 0): "softmax",
    ("softmax/dz", 0, 0): "softmax",
    ("softmax/dz.remainder", 0, 1): "softmax",
    ("scale/k", 0, 0): "softmax",
    ("scale/below", 0, 0): "scale/samples",
    ("scale/largest", 0, 0): "scale/samples",
    ("scale/is-largest", 0, 0): "scale/samples",
    ("scale/upper", 0, 0): "scale",
    ("scale/lower", 0, 0): "scale",
    ("loss/ln/bit-shift", 0, 0): "loss/samples",
    ("loss/ln/c0", 0, 0): "loss/samples",
    ("loss/ln/w3", 0, 0): "loss/samples",
    ("loss/ln/a3.remainder", 0, 2): "loss/samples",
    ("loss/x-true", 0, 0): "loss/true-logit",
    ("loss/total", 0, 0): "loss",
    ("loss/above-minimum", 0, 0): "loss",
    ("linear7/dx", 0, 0): "linear7/input-gradient",
    ("avgpool2d5/dx", 0, 0): "avgpool2d5/backward",
    ("avgpool2d5/backward.remainder", 0, 0): "avgpool2d5/backward",
    ("relu4/dx", 0, 0): "relu4/backward",
    ("conv2d3/dx", 0, 0): "conv2d3/input-gradient",
    ("dx.remainder", 1, 0): "conv2d3/input-gradient",
    ("maxpool2d2/dx", 0, 0): "maxpool2d2/backward",
    ("relu1/dx", 0, 0): "relu1/backward",
    ("gradient/conv2d0.weight", 0, 0): "gradient/conv2d0.weight",
    ("g.remainder", 1, 0): "gradient/conv2d3.weight",
    ("gradient/linear7.bias", 0, 0): "gradient/linear7.bias",
    ("E/conv2d0.weight", 0, 0): "E/conv2d0.weight",
    ("V/conv2d3.weight", 0, 1): "V/conv2d3.weight",
    ("squares/linear7.weight.00", 0, 0): "squares/linear7.weight",
    ("squares/linear7.weight.01", 0, 1): "squares/linear7.weight",
    ("squares/conv2d0.bias.11", 0, 0): "squares/conv2d0.bias",
    ("perturbation/linear7.weight.remainder", 0, 0): "perturbation/linear7.weight",
    ("update/conv2d3.weight.remainder", 0, 2): "update/conv2d3.weight",
    ("update/linear7.bias.remainder", 0, 0): "update/linear7.bias",
    ("step-size/q", 0, 0): "perturbation/linear7.weight",
    ("step-size/n", 0, 0): "step-size",
    ("step-size/q2n", 0, 3): "step-size",
    ("step-size/low", 0, 4): "step-size",
    ("step-size/high", 0, 4): "step-size",
    ("score/scaled-loss", 0, 0): "score/ratios",
    ("score/numerator", 0, 1): "score/ratios",
    ("score/ln-numerator/limb-shift", 0, 0): "score/ratios",
    ("score/ln-loss/moved", 0, 0): "score/ratios",
    ("score/ln-loss/c2", 0, 0): "score/ratios",
    ("score/y", 0, 0): "score/ratios",
    ("score/y.remainder", 0, 0): "score/ratios",
    ("score/squares", 0, 0): "score/squares",
    ("score/sum", 0, 0): "score/threshold",
    ("score/slack", 0, 0): "score/threshold",
    ("score/threshold/threshold.carry1", 0, 0): "score/threshold",
}
# Named only once all that precede them hold: lies that are consistent up to there, below.
LATER = {"relu1/forward", "relu4/forward", "maxpool2d2/choice", "softmax/rows", "scale/one", "scale/second-passes"}
LAYERS = ("gradient", "E", "V", "squares", "perturbation", "update")


def kind(name):
    """The kind of a constraint: parameters of one layer stand for all."""
    head = name.split("/")[0]
    return head if head in (*LAYERS, "input") else name


@pytest.mark.parametrize(("where", "name"), DIGITS.items(), ids=lambda v: "-".join(map(str, v)) if len(v) == 3 else "")
def test_one_altered_digit_is_named_by_its_constraint(cnn, where, name):
    tensor, which, digit = where
    t = cnn.tensor(tensor, which)
    with altered(cnn.witness, t) as (digits,):
        bit = int(digits[digit].argmin()) if t.digits[digit].range == BIT else 0  # of bits, one that is not set
        at = digits.at(digit, bit)
        digits[at] = other_digit(digits[at], t.digits[digit].range)
        assert strict_name(cnn.layout, cnn.witness, t) == f"constraint/{name}"


def test_every_kind_of_constraint_is_named_by_a_test(cnn):
    kinds = {kind(con.name) for con in cnn.certificate.circuit.constraints}
    kinds |= {f"link/{link.name}" for link in cnn.certificate.circuit.links}
    assert kinds == {kind(name) for name in DIGITS.values()} | LATER


def test_honest_witness_breaks_nothing(cnn):
    assert violations(cnn.certificate.circuit, cnn.witness) == []


@pytest.mark.parametrize("case", ["cnn", "q32"])
def test_no_digit_of_the_witness_is_free(cnn, case):
    """Over the integers: some identity, public value or hash breaks whichever digit moves within its range."""
    h = cnn if case == "cnn" else honest(tiny_mlp(kind="q32", variant="sam", batch=2))
    circuit, w, rng = h.certificate.circuit, h.witness, np.random.default_rng(1)
    readers = {t: [] for t in circuit.tensors}
    for con in circuit.constraints:
        for label, e in con.members:
            for t in reads(e):
                readers[t].append((con, label, e))
    linked = {t for link in circuit.links for t, _ in link.parts}
    free = []
    for t in circuit.tensors:
        for d, digit in enumerate(t.digits):
            with altered(w, t) as (digits,):
                at = (d, *(int(rng.integers(s)) for s in t.sizes))
                digits[at] = other_digit(digits[at], digit.range)
                if any(np.any(w.expression(e, con.out, con.summed)) for con, _, e in readers[t]):
                    continue
                if t in linked and any(np.any(link_values(k, w) != k.target) for k in circuit.links):
                    continue
                free.append((t.name, at))
    assert free == []


# ------------------------------------------------------------------------------------------------ consistent lies


@pytest.mark.parametrize("name", ["relu1", "relu4"])
def test_an_output_that_is_not_the_positive_part_is_named(cnn, name):
    """Output one more, magnitude two more: the pre-activation they stand for is the same."""
    relu = next(layer for layer in cnn.certificate.layers if isinstance(layer, ReLU) and layer.name == name)
    w = cnn.witness
    with altered(w, relu.y.tensor, relu.magnitude):
        for t, change in ((relu.y.tensor, 1), (relu.magnitude, 2)):
            values = w.value(t)
            values[0, 0, 0, 0] += change
            w.put(t, values)
        assert strict_name(cnn.layout, w) == f"constraint/{name}/forward"


BRANCHES = {
    ("relu2/y", 0): "conv2d0/forward",  # read by the samples' sum, two convolutions and a shortcut
    ("relu7/y", 1): "conv2d5/forward",
    ("relu7/magnitude", 0): "conv2d5/forward",
    ("conv2d8/z", 0): "conv2d8/forward",
    ("conv2d12/z", 1): "conv2d12/forward",
    ("linear17/z", 0): "linear17/forward",
    ("relu18/sign", 0): "relu18/forward",
    ("relu18/magnitude", 1): "relu18/forward",
    ("linear19/z", 0): "linear19/forward",
    ("softmax/dz", 0): "softmax",
    ("relu18/dx", 0): "relu18/backward",
    ("conv2d10/dx", 0): "conv2d10/input-gradient",
    ("conv2d8/dx", 0): "conv2d8/input-gradient",
    ("relu7/dx", 1): "relu7/backward",
}


@pytest.mark.parametrize(("where", "name"), BRANCHES.items(), ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_of_a_branch_is_named(branches, where, name):
    t = branches.tensor(where[0])
    with altered(branches.witness, t) as (digits,):
        at = digits.at(where[1], 0)
        digits[at] = other_digit(int(digits[at]), t.digits[where[1]].range)
        assert strict_name(branches.layout, branches.witness, t) == f"constraint/{name}"


def test_a_forgotten_shortcut_is_named(branches):
    def alone(self, w, z, p, rows=None):
        w.put(self.bit, (z > 0).astype(np.int64), p, rows)
        w.put(self.magnitude, abs(z) - (z > 0), p, rows)
        w.put(self.a.tensor, z * (z > 0), p, rows)

    lie = mock.patch.object(Rectifier, "put", alone)
    assert lying_name(branches.case, lie) == "constraint/conv2d0/forward"


def test_a_gradient_that_forgets_a_branch_is_named(branches):
    def first_reader(self, result, w, p):
        dy = w.value(self.dy.parts[0].tensor, p)
        w.put(self.dx.tensor, dy * w.value(self.bit, p), p)
        return result

    assert lying_name(branches.case, after(ReLU, "backward", first_reader)) == "constraint/relu7/backward"


def test_a_network_with_branches_is_proved(branches):
    verify_circuit(branches.layout, transcript(), prove_circuit(branches.layout, branches.witness, transcript()))


NORMS = {
    ("batchnorm2d0/u", 0): "batchnorm2d0/scale",
    ("batchnorm2d0/u", 1): "batchnorm2d0/scale",
    ("batchnorm2d0/y", 0): "batchnorm2d0/forward",
    ("weight/batchnorm2d2.weight", 0): "batchnorm2d2/scale",
    ("weight/batchnorm2d2.bias", 1): "batchnorm2d2/forward",
    ("y.remainder", 0): "batchnorm2d0/forward",
    ("relu3/magnitude", 1): "batchnorm2d2/forward",
    ("relu7/sign", 0): "batchnorm2d5/forward",
    ("batchnorm2d5/dx", 0): "batchnorm2d5/input-gradient",
    ("batchnorm2d2/dx", 1): "batchnorm2d2/input-gradient",
    ("batchnorm2d0/h", 0): "batchnorm2d0/sums",
    ("h.remainder", 1): "batchnorm2d10/sums",
    ("gradient/batchnorm2d2.weight", 0): "gradient/batchnorm2d2.weight",
    ("gradient/batchnorm2d2.bias", 0): "gradient/batchnorm2d2.bias",
    ("update/batchnorm2d2.weight.remainder", 2): "update/batchnorm2d2.weight",
}


@pytest.mark.parametrize(("where", "name"), NORMS.items(), ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_of_a_batch_norm_is_named(norms, where, name):
    t = norms.tensor(where[0])
    with altered(norms.witness, t) as (digits,):
        at = digits.at(where[1], 0)
        digits[at] = other_digit(int(digits[at]), t.digits[where[1]].range)
        assert strict_name(norms.layout, norms.witness, t) == f"constraint/{name}"


@pytest.mark.parametrize(("change", "name"), [("factors", "scale"), ("signed_means", "forward")])
def test_other_public_statistics_are_named(norms, change, name):
    """The executor believes in a factor, or a mean, one unit larger."""

    def swapped(original):
        def run(self, *args):
            own = getattr(self, change)
            if change == "factors":
                other = [(own[0][0] + 1, *own[0][1:]), own[1]]
            else:
                (sign, k, limb), *rest = own
                other = [(sign, k, (limb[0] + 1, *limb[1:])), *rest]
            setattr(self, change, other)
            try:
                return original(self, *args)
            finally:
                setattr(self, change, own)

        return run

    method = "_times_factor" if change == "factors" else "_minus_mean"
    lie = mock.patch.object(BatchNorm2d, method, swapped(getattr(BatchNorm2d, method)))
    assert lying_name(norms.case, lie) == f"constraint/batchnorm2d0/{name}"


def test_a_network_with_batch_norms_is_proved(norms):
    verify_circuit(norms.layout, transcript(), prove_circuit(norms.layout, norms.witness, transcript()))


def test_a_window_without_a_choice_is_named(cnn):
    """y one above the maximum, no choice bit: slacks and products are as they must be, only the sum of bits is not."""
    pool = next(layer for layer in cnn.certificate.layers if isinstance(layer, MaxPool2d))
    w, windows = cnn.witness, pool.s.size
    with altered(w, pool.y.tensor, pool.choice, pool.slack) as (_, choice, _):
        y, slack = w.value(pool.y.tensor), w.value(pool.slack)
        own = choice[0, 0, 0, 0, ::windows]
        before = np.arange(len(own)) < int(own.argmax())
        y[0, 0, 0, 0] += 1
        slack[0, 0, 0, ::windows] += before  # y - x_k - 1 for every k, with y one more
        choice[0, 0, 0, 0, ::windows] = 0
        w.put(pool.y.tensor, y)
        w.put(pool.slack, slack)
        assert strict_name(cnn.layout, w) == "constraint/maxpool2d2/choice"


def test_a_pooled_value_above_its_window_is_named(cnn):
    """y and all slacks one more: only the chosen position's slack should have been zero."""
    pool = next(layer for layer in cnn.certificate.layers if isinstance(layer, MaxPool2d))
    w, windows = cnn.witness, pool.s.size
    with altered(w, pool.y.tensor, pool.slack):
        y, slack = w.value(pool.y.tensor), w.value(pool.slack)
        y[0, 0, 0, 0] += 1
        slack[0, 0, 0, ::windows] += 1
        w.put(pool.y.tensor, y)
        w.put(pool.slack, slack)
        assert strict_name(cnn.layout, w) == "constraint/maxpool2d2/forward"


def test_an_unattained_maximum_is_named(cnn):
    head, w = cnn.certificate.head, cnn.witness
    with altered(w, head.is_top.tensor) as (bits,):
        bits[...] = 0
        assert strict_name(cnn.layout, w) == "constraint/softmax/rows"


def scaled_deltas(head, w, p, bits, power):
    """Set the scale bits of pass p and follow with everything the softmax constraint holds together."""
    scale = Digits(w, head.scale.tensor)
    scale[0, 0, p] = 0
    scale[0, 0, p, bits] = 1
    r = head.results[p]
    scaled = (r["wrong"] - r["true"]) * power + (1 << 23)
    w.put(head.dz.tensor, (scaled >> 24).astype(np.int64), p)
    rem = w.value(head.dz_rem.tensor).astype(object)
    rem[0, p] = scaled & ((1 << 24) - 1)
    w.put(head.dz_rem.tensor, rem)
    w.fill_carries(head.dz_carries, head.full.axes)


def delta_tensors(head):
    return head.scale.tensor, head.dz.tensor, head.dz_rem.tensor, *(s.carry.tensor for s in head.dz_carries if s.carry)


def test_two_scales_at_once_are_named(cnn):
    head = cnn.certificate.head
    with altered(cnn.witness, *delta_tensors(head)):
        scaled_deltas(head, cnn.witness, 1, [0, 1], 3)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/scale/one"


def test_a_scaled_second_gradient_is_named(cnn):
    head = cnn.certificate.head
    with altered(cnn.witness, *delta_tensors(head)):
        scaled_deltas(head, cnn.witness, 1, [3], 8)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/scale/second-passes"


# -- executions with another rule, honest ever after


def wrapping_put(self, t, values, index=None, rows=None):
    """`Witness.put` of a prover who squeezes what does not fit into the range."""
    shape = self.digit(t, 0, index, rows).shape
    rest = np.asarray(values).reshape(shape).astype(object)
    for i, d in enumerate(t.digits):
        width = t.digits[i + 1].shift - d.shift if i + 1 < len(t.digits) else None
        size = d.range.size if width is None else 1 << width
        digit = ((rest - d.range.lo) % size) + d.range.lo
        if width is not None:
            rest = (rest - digit) >> width
        self.write(t, i, np.asarray(digit, np.int64).reshape(shape), index, rows)


def lying_name(case, *patches, plan=None):
    """The constraint named when the executor follows patched rules (and squeezes what no longer fits)."""
    certificate = Certificate(case.plan)
    if plan:
        certificate.plan = plan
    layout = certificate.close(TAU)
    with mock.patch.object(Witness, "put", wrapping_put):
        for p in patches:
            p.start()
        try:
            witness, trace = certificate.execute(case.samples, case.randomness)
        finally:
            for p in patches:
                p.stop()
        certificate.threshold(witness, trace)
    return strict_name(layout, witness)


def after(cls, method, change):
    """Patch a method: `change(self, result, *args)` gives the new result."""
    original = getattr(cls, method)

    def changed(self, *args):
        return change(self, original(self, *args), *args)

    return mock.patch.object(cls, method, changed)


@pytest.mark.parametrize("lie", [-1, 1])
def test_another_step_size_is_named(cnn, lie):
    assert lying_name(cnn.case, after(StepSize, "solve", lambda self, q, *_: q + lie)) == "constraint/step-size"


def nudge(passes):
    """Moves one weight by one unit in the last place."""

    def change(self, result, w, t, *_):
        if self.g.name == "conv2d3.weight":
            value = w.value(self.weight, 2 * t + passes)
            value.flat[4] += 1
            w.put(self.weight, value, 2 * t + passes)
        return result

    return change


def test_a_later_weight_off_by_one_unit_is_named(cnn):
    lie = after(Parameter, "second_pass", nudge(2))
    assert lying_name(cnn.case, lie) == "constraint/update/conv2d3.weight"


def test_a_perturbed_weight_off_by_one_unit_is_named(cnn):
    lie = after(Parameter, "perturb", nudge(1))
    assert lying_name(cnn.case, lie) == "constraint/perturbation/conv2d3.weight"


def test_other_public_weights_are_named(cnn):
    weights = {**cnn.case.plan.weights}
    weights["conv2d0.bias"] = weights["conv2d0.bias"] + np.array([0, 1, 0])
    plan = replace(cnn.case.plan, weights=weights)
    assert lying_name(cnn.case, plan=plan) == "constraint/public/weight/conv2d0.bias"


def test_a_gradient_through_a_negative_pre_activation_is_named(cnn):
    def leak(self, result, w, p):
        if self.dx is not None:
            dx = w.value(self.dx.tensor, p)
            closed = np.argwhere(w.value(self.bit, p) == 0)[0]
            dx[tuple(closed)] += 5
            w.put(self.dx.tensor, dx, p)
        return result

    assert lying_name(cnn.case, after(ReLU, "backward", leak)) == "constraint/relu4/backward"


@pytest.mark.parametrize("rule", ["last of equals", "smallest"])
def test_another_pooling_choice_is_named(cnn, rule):
    def choose(self, w, p):
        x = self.x.read(w, p)[:, :, self.index]
        if rule == "smallest":
            pick = x.argmin(axis=2)
        else:
            pick = x.shape[2] - 1 - x[:, :, ::-1].argmax(axis=2)
            assert np.any(pick != x.argmax(axis=2))  # zeros after a ReLU: there are ties
        y = np.take_along_axis(x, pick[:, :, None], axis=2)
        order = np.arange(self.k.size)[:, None]
        w.put(self.y.tensor, y[:, :, 0], p)
        w.put(self.choice, (order == pick[:, :, None]).astype(np.int64).reshape(self.choice.shape), p)
        w.put(self.slack, (y - x - (order < pick[:, :, None])).reshape(self.choice.shape), p)

    lie = mock.patch.object(MaxPool2d, "forward", choose)
    assert lying_name(cnn.case, lie) == "constraint/maxpool2d2/forward"


def confident_case():
    """A network that is sure of itself, and right in the first batch: its loss scale is not zero."""
    graph = Graph(np.random.default_rng(3), [1, 3, 4], scale=6).flatten().linear(4)
    certificate, w, _ = graph.case(batch=1).execute()
    guess = w.value(certificate.head.logits.tensor, 0).argmax(axis=1)
    case = graph.case(batch=1, labels=np.array([guess, guess]))
    assert case.execute()[2].scales[0] > 0
    return case


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_loss_scale_is_named(shift):
    original = Softmax.forward

    def forward(self, w, p):
        original(self, w, p)
        r = self.results[p]
        if p == 0:
            r["k"] += shift
            scaled = ((r["wrong"] - r["true"]) << r["k"]) + (1 << 23)
            w.put(self.dz.tensor, (scaled >> 24).astype(np.int64), p)
            r["dz_rem"] = scaled & ((1 << 24) - 1)

    lie = mock.patch.object(Softmax, "forward", forward)
    assert lying_name(confident_case(), lie) == "constraint/scale"


def test_a_log_ratio_off_by_one_unit_is_named(cnn):
    lie = after(Score, "log_ratio", lambda self, y, *_: y + 1)
    assert lying_name(cnn.case, lie) == "constraint/score/ratios"


def test_an_exponential_beyond_64_nats_that_is_not_zero_is_named():
    """The prover calls the excess over 64 nats a remainder and keeps exp of the rest."""
    graph = Graph(np.random.default_rng(7), [1, 3, 4]).flatten().linear(4)
    weights = graph.params["linear1.weight"]
    weights[0], weights[1:] = 14, -14  # about 170 nats between the first class and the others
    case = graph.case(labels=np.ones((2, 3), np.int64))
    honest_evaluate = exponential.evaluate
    far = []

    def evaluate(x):
        out = honest_evaluate(x)
        far.append(np.any(out["far"]))
        return {**out, "far": out["far"] * 0, "y": out["ys"][-1]}

    patches = (mock.patch.object(exponential, "evaluate", evaluate), mock.patch.object(softmax, "evaluate", evaluate))
    assert lying_name(case, *patches) == "constraint/softmax"
    assert any(far)


def test_a_logarithm_that_loses_the_top_of_its_argument_is_named(cnn):
    """The scaled loss is shifted past its last limb, and the logarithm of what remains is taken."""
    honest_evaluate = logarithm.evaluate

    def evaluate(v, limbs):
        return honest_evaluate(v & ((1 << 44) - 1) if limbs == SCALED_LOSS_LIMBS else v, limbs)

    patches = (mock.patch.object(logarithm, "evaluate", evaluate), mock.patch.object(score, "evaluate_ln", evaluate))
    assert lying_name(cnn.case, *patches) == "constraint/score/ratios"


# -- other data


def retold(case, samples=None, randomness=None):
    """The witness of other private data under the same public hashes."""
    certificate = Certificate(case.plan)
    chosen = case.samples if samples is None else samples
    layout = certificate.close(TAU)
    witness, trace = certificate.execute(chosen, case.randomness if randomness is None else randomness)
    certificate.threshold(witness, trace)
    return strict_name(layout, witness)


def test_another_pixel_is_named_by_the_hash(cnn):
    samples = cnn.case.samples.copy()
    samples[1, 2, 7] ^= 1
    assert retold(cnn.case, samples) == "constraint/link/sample"


def test_another_label_is_named_by_the_hash(cnn):
    samples = cnn.case.samples.copy()
    samples[0, 1, -1] = (samples[0, 1, -1] + 1) % cnn.case.plan.classes
    assert retold(cnn.case, samples) == "constraint/link/sample"


def test_samples_in_another_order_are_named_by_the_hash(cnn):
    samples, randomness = cnn.case.samples[::-1].copy(), cnn.case.randomness[::-1].copy()
    assert retold(cnn.case, samples, randomness) == "constraint/link/sample"


def test_a_label_that_is_not_the_committed_byte_is_named(cnn):
    onehot = cnn.certificate.samples.onehot
    with altered(cnn.witness, onehot) as (bits,):
        bits[0, 0, 0] = np.roll(bits[0, 0, 0], 1)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/label"
    with altered(cnn.witness, onehot) as (bits,):
        bits[0, 0, 0] = 0
        assert strict_name(cnn.layout, cnn.witness) == "constraint/label"


# ------------------------------------------------------------------------------------------------ the threshold


def lying_threshold(case):
    """A circuit whose tau lies below the score, with the slack a prover might invent."""
    _, _, trace = case.execute()
    certificate, witness, trace = case.execute(Fraction(trace.score) / 2)
    with pytest.raises(ThresholdExceeded):
        certificate.threshold(witness, trace)
    return certificate, certificate.layout, witness, trace


def test_a_threshold_below_the_score_is_named(mlp):
    certificate, layout, w, trace = lying_threshold(mlp.case)
    score = certificate.score
    slack = (certificate.net.steps * score.tau) ** 2 - trace.variance
    assert slack < 0
    for invented in (0, -slack, slack % (1 << 110)):
        w.put(score.slack.tensor, np.array([invented], object))
        with mock.patch.object(Witness, "put", wrapping_put):
            w.fill_carries(score.slack_carries, ())
        assert strict_name(layout, w) == "constraint/score/threshold"


def test_a_negative_slack_fits_no_digits_and_the_proof_falls_to_the_range_check(mlp):
    certificate, layout, w, trace = lying_threshold(mlp.case)
    score = certificate.score
    slack = (certificate.net.steps * score.tau) ** 2 - trace.variance
    with pytest.raises(RangeOverflow):
        w.put(score.slack.tensor, np.array([slack], object))
    digits = [(slack >> (22 * i)) & ((1 << 22) - 1) for i in range(4)]
    Digits(w, score.slack.tensor)[:, 0] = [*digits, slack >> 88]
    w.fill_carries(score.slack_carries, ())
    assert np.all(w.expression(certificate.circuit.constraints[-1].members[-1][1], ()) == 0)
    assert full_name(layout, w) == "range-check/roots"


# ------------------------------------------------------------------------------------------------ range checks


def test_a_carry_beyond_its_table_is_caught_by_the_range_check(cnn):
    """All identities hold: the low digit gives 2^22 less and the high digit one more."""
    carry = cnn.tensor("conv2d0/forward/z.carry1")
    with altered(cnn.witness, carry) as (digits,):
        at = (0, 0, 0, 0)
        digits[(0, *at)] += 1 << 22
        digits[(1, *at)] -= 1
        assert digits[(1, *at)] >= carry.digits[1].range.lo
        broken = [v for v in violations(cnn.certificate.circuit, cnn.witness) if not v.startswith("range of")]
        assert broken == []
        assert full_name(cnn.layout, cnn.witness) == "range-check/roots"


@pytest.mark.parametrize(("name", "digit", "change"), [("x", 0, 16), ("y", 1, -64), ("sign", 0, 2), ("r", 0, 256)])
def test_digits_outside_their_tables_are_caught(name, digit, change):
    w = toy_witness()
    t = next(t for t in toy_layout().circuit.tensors if t.name == name)
    digits = Digits(w, t)
    digits[digits.at(digit, 3)] += change
    with pytest.raises(ProofRejected, match="range-check/roots"):
        prove_toy(w, strict=True)
    with pytest.raises(ProofRejected, match="hidden-equations"):
        verify_toy(prove_toy(w))


def test_a_digit_of_one_table_does_not_pass_in_another():
    """Nine is a digit of the table of sixteen, not of that of eight: classes keep tables apart."""
    w = toy_witness()
    t = next(t for t in toy_layout().circuit.tensors if t.name == "x")
    assert {d.range.size for d in t.digits} == {16, 8}
    Digits(w, t)[1, 0, 0, 0] = 5  # balanced(3) ends at 3
    with pytest.raises(ProofRejected, match="range-check/roots"):
        prove_toy(w, strict=True)


def test_no_residue_that_wraps_around_p_is_made_of_digits(cnn):
    """Adding one to an output and fixing the equation modulo p needs a carry that no digits denote."""
    con = next(c for c in cnn.certificate.circuit.constraints if c.name == "conv2d0/forward")
    run = cnn.certificate.layers[0].run
    count = int(np.prod([ax.size for ax in con.summed]))
    for (_, e), step in zip(con.members, run.steps, strict=True):
        low, high = e.bounds(count)
        assert -P < low <= 0 <= high < P
        if step.carry is None:
            continue
        # value + 1 - 2^width carry = 0 modulo p: the carry moves by 2^-width, a residue far from small integers
        lo, hi = step.carry.tensor.bounds()
        move = pow(1 << (22 * (step.last - step.first)), -1, P)
        reach = hi - lo
        assert reach < move < P - reach


def test_every_identity_stays_below_p_at_the_extremes_of_its_digits(cnn, mlp):
    for h in (cnn, mlp):
        for con in h.certificate.circuit.constraints:
            count = int(np.prod([ax.size for ax in con.summed], dtype=object)) if con.summed else 1
            for label, e in con.members:
                low, high = e.bounds(count)
                assert max(-low, high) < P, (con.name, label)


# ------------------------------------------------------------------------------------------------ LogUp


def toy_verdict(*patches, strict=False, witness=None):
    """The check a toy proof made under patches falls to: the prover's own if strict, else the verifier's."""
    for p in patches:
        p.start()
    try:
        with pytest.raises(ProofRejected) as caught:
            proof = prove_toy(witness, strict=strict)
            for p in patches:
                p.stop()
            verify_toy(proof)
    finally:
        mock.patch.stopall()
    return caught.value.check


def test_honest_toy_proof_passes_the_same_harness():
    verify_toy(prove_toy(strict=True))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("entry", [0, 100, -1])
def test_multiplicities_that_do_not_count_are_caught(strict, entry):
    original = argument.count_multiplicities

    def miscounted(layout, x):
        original(layout, x)
        x[layout.multiplicity_start :][entry] += 1

    check = toy_verdict(mock.patch.object(argument, "count_multiplicities", miscounted), strict=strict)
    assert check == ("range-check/roots" if strict else "hidden-equations")


def forged_roots(kind_of_lie):
    """Root fractions that add up to zero though a digit is out of range."""
    digit_tree, table_tree, honest = ProverOracle.digit_tree, ProverOracle.table_tree, []

    def digits(self, *args):
        tree = digit_tree(self, *args)
        honest.append(tree.root())
        ((pw, qw),) = honest
        if kind_of_lie == "zero":
            tree.root = lambda: (F.ZERO, F.ZERO)
        elif kind_of_lie == "one more":
            tree.root = lambda: (pw + 1, qw)
        return tree

    def table(self, *args):
        tree = table_tree(self, *args)
        ((pw, qw),), (_, qt) = honest, tree.root()
        if kind_of_lie == "table numerator":
            tree.root = lambda: (-(pw * qt) / qw, qt)
        return tree

    return (
        mock.patch.object(ProverOracle, "digit_tree", digits),
        mock.patch.object(ProverOracle, "table_tree", table),
    )


@pytest.mark.parametrize(
    ("lie", "name"),
    [("zero", "range-check/digits"), ("table numerator", "range-check/table"), ("one more", "range-check/digits")],
)
def test_forged_root_fractions_are_caught_by_their_tree(lie, name):
    w = toy_witness()
    t = next(t for t in toy_layout().circuit.tensors if t.name == "x")
    Digits(w, t)[1, 0, 0, 0] = 5
    assert toy_verdict(*forged_roots(lie), strict=True, witness=w) == name
    assert toy_verdict(*forged_roots(lie), witness=w) == "hidden-equations"


@pytest.fixture
def many_trees(monkeypatch):
    monkeypatch.setattr(lookups, "TREE_BITS", 6)
    assert len(lookups.digit_trees(toy_layout())) > 3


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_wrong_root_of_one_of_several_trees_is_caught_by_that_tree(which, strict, many_trees):
    """A digit is out of range, and the root of one tree makes up for it."""
    w, _ = out_of_range()
    starts = [start for start, _ in lookups.digit_trees(toy_layout())]
    digit_tree, table_tree = ProverOracle.digit_tree, ProverOracle.table_tree

    def missing(self, alpha):
        trees = [digit_tree(self, alpha, *block) for block in lookups.digit_trees(self.layout)]
        return sum((t.root()[0] / t.root()[1] for t in (*trees, table_tree(self, alpha))), F.ZERO)

    def digits(self, alpha, start, count):
        tree = digit_tree(self, alpha, start, count)
        p, q = tree.root()
        if start == starts[which]:
            tree.root = lambda: (p - missing(self, alpha) * q, q)
        return tree

    check = toy_verdict(mock.patch.object(ProverOracle, "digit_tree", digits), strict=strict, witness=w)
    assert check == ("range-check/digits" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("place", range(6))
def test_a_wrong_factor_in_the_chain_of_roots_is_caught(place, strict, many_trees):
    """Each of the six factors P q, p Q, Q q by which the second tree is added, and with it all later sums."""
    original = ProverChannel.send_pairs
    state = {"done": False}

    def send_pairs(self, label, pairs, count):
        if label == "roots" and not state["done"]:
            state["done"] = True
            pairs = [list(pair) for pair in pairs]
            pairs[place // 2][place % 2] += 1
            pairs = [tuple(pair) for pair in pairs]
        return original(self, label, pairs, count)

    check = toy_verdict(mock.patch.object(ProverChannel, "send_pairs", send_pairs), strict=strict)
    name = "range-check/digits" if place == 2 else "range-check/roots"  # p is the only one that is sent once
    assert check == (name if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("place", [0, 3])
def test_a_factor_of_the_last_sum_that_makes_it_vanish_is_caught(place, strict, many_trees):
    """P q + p Q = 0 with another P, or another Q, than that of the digits' sum: a digit is out of range."""
    w, _ = out_of_range()
    original = ProverChannel.send_pairs

    def send_pairs(self, label, pairs, count):
        if label == "roots" and count == 2:
            (top, q), (p, bottom) = pairs
            pairs = [(-(p * bottom) / q, q), (p, bottom)] if place == 0 else [(top, q), (p, -(top * q) / p)]
        return original(self, label, pairs, count)

    check = toy_verdict(mock.patch.object(ProverChannel, "send_pairs", send_pairs), strict=strict, witness=w)
    assert check == ("range-check/roots" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
def test_a_wrong_root_of_a_tree_of_one_digit_is_caught(strict, monkeypatch):
    """Its numerator makes up for a digit that is out of range."""
    monkeypatch.setattr(lookups, "TREE_BITS", 0)
    w, _ = out_of_range()
    digit_tree, table_tree, rest = ProverOracle.digit_tree, ProverOracle.table_tree, []

    def digits(self, alpha, start, count):
        tree = digit_tree(self, alpha, start, count)
        if not rest:
            trees = [digit_tree(self, alpha, *block) for block in lookups.digit_trees(self.layout)]
            rest.append(sum((t.root()[0] / t.root()[1] for t in (*trees, table_tree(self, alpha))), F.ZERO))
            p, q = tree.root()
            tree.root = lambda: (p - rest[0] * q, q)
        return tree

    check = toy_verdict(mock.patch.object(ProverOracle, "digit_tree", digits), strict=strict, witness=w)
    assert check == ("range-check/digits" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
def test_roots_that_do_not_add_up_are_caught_by_the_last_of_them(strict, many_trees):
    w, _ = out_of_range()
    assert toy_verdict(strict=strict, witness=w) == ("range-check/roots" if strict else "hidden-equations")


def out_of_range():
    """A witness that breaks no identity, with one digit beyond its table, and where it lies in X."""
    w, layout = toy_witness(), toy_layout()
    t = next(t for t in layout.circuit.tensors if t.name == "y")
    digits = Digits(w, t)
    index = int(digits[1].argmax())  # far from the lower end of its range
    digits[digits.at(0, index)] += 1 << 8
    digits[digits.at(1, index)] -= 1
    x = w.x
    (at,) = [
        i
        for seg in layout.segments
        for i in range(seg.start, seg.stop)
        if not 0 <= x[i] + seg.shift < layout.tables[seg.cls]
    ]
    return w, at


@pytest.mark.parametrize("strict", [True, False])
def test_a_digit_left_out_of_the_sum_is_caught_by_the_tree(strict):
    """The tree counts the digit beyond its table zero times; the verifier knows all numerators of the leaves."""
    w, at = out_of_range()

    def level(self):
        out = original(self)
        out[:2, at] = 0
        return out

    original = Leaves.level
    check = toy_verdict(mock.patch.object(Leaves, "level", level), strict=strict, witness=w)
    assert check == ("range-check/digits" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
def test_another_entry_in_the_table_is_caught_by_the_denominators(strict):
    """An unused entry of the table gives way to the digit that is none, with its multiplicity committed."""
    w, at = out_of_range()
    layout, tree_of, count = toy_layout(), trees.Tree, argument.count_multiplicities
    segment = next(s for s in layout.segments if s.start <= at < s.stop)

    def unused(x):
        return int(np.flatnonzero(x[layout.multiplicity_start :] == 0)[0])

    count(layout, w.x)
    slot = unused(w.x)

    def counted(layout, x):
        count(layout, x)
        x[layout.multiplicity_start + slot] = 1

    def table_tree(self, alpha):
        def changed(level, depth):
            other = alpha - F(int(self.x[at]) + segment.shift, segment.cls)
            level[2:, slot] = other.re, other.im
            return tree_of(level, depth)

        with mock.patch.object(trees, "Tree", changed):
            return trees.table_tree(self.layout, self.x, alpha)

    patches = (
        mock.patch.object(argument, "count_multiplicities", counted),
        mock.patch.object(ProverOracle, "table_tree", table_tree),
    )
    check = toy_verdict(*patches, strict=strict, witness=w)
    assert check == ("range-check/table-denominators" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("part", ["digits", "multiplicities"])
def test_trees_over_other_values_than_the_committed_ones_are_caught(part, strict):
    """The range check succeeds, on a vector that is not X: only the last sum-check compares the two."""
    layout, count = toy_layout(), argument.count_multiplicities
    honest, committed = committed_vector(layout, toy_witness()), toy_witness()
    if part == "digits":
        committed, _ = out_of_range()

    def counted(layout, x):
        count(layout, x)
        x[layout.multiplicity_start :] = honest[layout.multiplicity_start :] if part == "digits" else 0

    patches = (
        mock.patch.object(argument, "count_multiplicities", counted),
        mock.patch.object(ProverOracle, "digit_tree", lambda self, *a: trees.digit_tree(self.layout, honest, *a)),
        mock.patch.object(ProverOracle, "table_tree", lambda self, *a: trees.table_tree(self.layout, honest, *a)),
    )
    check = toy_verdict(*patches, strict=strict, witness=committed)
    assert check == ("batch" if strict else "hidden-equations")


# ------------------------------------------------------------------------------------------------ messages

MESSAGES = {
    "linear/matmul": "sumcheck/matmul",
    "round/matmul": "sumcheck/matmul",
    "ends/matmul": "sumcheck/matmul",
    "linear/relu": "sumcheck/relu",
    "roots": "range-check/digits",
    "leaves/digits": "range-check/digits",
    "tree/digits": "range-check/digits",
    "tree-ends/digits": "range-check/digits",
    "tree/table": "range-check/table",
    "tree-ends/table": "range-check/table",
    "batch": "batch",
}


def one_wrong_message(label):
    """Add one to the first value sent under a label."""
    state = {"done": False}

    def wrap(original, paired):
        def send(self, name, values, count):
            if name == label and not state["done"]:
                state["done"] = True
                values = list(values)
                values[0] = (values[0][0] + 1, values[0][1]) if paired else values[0] + 1
            return original(self, name, values, count)

        return send

    return (
        mock.patch.object(ProverChannel, "send", wrap(ProverChannel.send, False)),
        mock.patch.object(ProverChannel, "send_pairs", wrap(ProverChannel.send_pairs, True)),
    )


@pytest.mark.parametrize(("label", "name"), MESSAGES.items())
def test_an_inconsistent_message_is_named_and_rejected(label, name):
    assert toy_verdict(*one_wrong_message(label), strict=True) == name
    assert toy_verdict(*one_wrong_message(label)) == "hidden-equations"


def test_every_kind_of_message_has_a_lie():
    labels = set()
    original = ProverChannel._write

    def write(self, label, values):
        labels.add(label)
        original(self, label, values)

    with mock.patch.object(ProverChannel, "_write", write):
        prove_toy()
    expected = {*MESSAGES, "round/relu", "ends/relu", "opened"}
    assert labels == expected


def test_a_wrong_opened_value_is_caught_by_the_equations_or_the_opening():
    original = ProverChannel.reveal
    lie = mock.patch.object(ProverChannel, "reveal", lambda self, label, v: original(self, label, v + 1))
    assert toy_verdict(lie, strict=True) == "batch"
    lie = mock.patch.object(ProverChannel, "reveal", lambda self, label, v: original(self, label, v + 1))
    assert toy_verdict(lie) == "opening/value"


# ------------------------------------------------------------------------------------------------ commitments


def changed_rows(change):
    original = MatrixCommitment.combine
    return mock.patch.object(MatrixCommitment, "combine", lambda self, w: change(original(self, w)))


def bumped(rows, *index):
    rows[(0, *index)] = (int(rows[(0, *index)]) + 1) % P
    return rows


@pytest.mark.parametrize(("row", "name"), [(0, "claims"), (1, "value"), (2, "value")])
def test_combined_rows_that_are_not_the_committed_ones_are_caught(row, name):
    assert toy_verdict(changed_rows(lambda rows: bumped(rows, row, 0))) == f"opening/{name}"


@pytest.mark.parametrize("row", range(3))
def test_combined_rows_changed_where_the_value_does_not_look_are_caught(row):
    assert toy_verdict(changed_rows(lambda rows: bumped(rows, row, -1))) == "opening/claims"  # in the tail


@pytest.mark.parametrize("times", [1, 2])
def test_inner_products_that_are_not_those_of_the_rows_are_caught(times):
    """Both are changed so that they still give the opened value."""
    dot, original, seen = ff.f_dot, MatrixCommitment.open, []

    def open_with_shift(self, t, z):
        half, unit = F(2).inv(), F(0, 1).inv()
        plus, minus = ((1 - z[-1]) + z[-1] * unit) * half, ((1 - z[-1]) - z[-1] * unit) * half
        shift = [F.ONE, (-(plus / minus)).conj()]

        def moved(a, b):
            seen.append(None)
            return dot(a, b) + (shift[len(seen) - 1] * times if len(seen) <= 2 else F.ZERO)

        with mock.patch("prover.commit.ff.f_dot", moved):
            return original(self, t, z)

    assert toy_verdict(mock.patch.object(MatrixCommitment, "open", open_with_shift)) == "opening/claims"


def opened_otherwise(level, change):
    """A prover that changes what its column tree of one level opens."""
    original = ColumnTree.open

    def open_columns(self, queries):
        data = bytearray(original(self, queries))
        if isinstance(self.code, level):
            change(data)
        return bytes(data)

    return mock.patch.object(ColumnTree, "open", open_columns)


@pytest.mark.parametrize(("level", "name"), [(MatrixCode, "merkle"), (SecondCode, "second-merkle")])
def test_other_columns_than_the_committed_ones_are_caught(level, name):
    def change(data):
        data[0] ^= 1

    assert toy_verdict(opened_otherwise(level, change)) == f"opening/{name}"


def test_columns_of_another_matrix_do_not_fit_the_claims():
    """The tree is that of another X: consistent with itself, not with the combined rows."""
    original = MatrixCommitment.__init__

    def init(self, x, code, secret, *args):
        other = x.copy()
        other[0] += 1
        original(self, other, code, secret)
        self.x = x

    def open_other(self, t, z, original=MatrixCommitment.open):
        x, mine = self.x, self.columns.open

        def columns(queries):
            self.x = self.x.copy()
            self.x[0] += 1
            out = mine(queries)
            self.x = x
            return out

        with mock.patch.object(self.columns, "open", columns):
            return original(self, t, z)

    patches = (
        mock.patch.object(MatrixCommitment, "__init__", init),
        mock.patch.object(MatrixCommitment, "open", open_other),
    )
    assert toy_verdict(*patches) == "opening/claims"


@pytest.mark.parametrize(("row", "name"), [(0, "second-proximity"), (1, "claims")])
def test_rows_of_the_second_matrix_that_are_not_combined_from_it_are_caught(row, name):
    original, weights, drawn = commit.kernels.fold_matrix_f, commit.second_weights, []

    def remember(*args):
        drawn.append(weights(*args))
        return drawn[-1]

    def fold(x, v):
        out = original(x, v)
        return bumped(out, 0, row, 0) if drawn and v is drawn[-1] else out  # its two combinations only

    patches = (
        mock.patch.object(commit, "second_weights", remember),
        mock.patch.object(commit.kernels, "fold_matrix_f", fold),
    )
    assert toy_verdict(*patches) == f"opening/{name}"


def test_an_evaluation_row_forged_to_the_claim_is_caught_by_the_second_columns():
    """The inner product with eq(s_col) stays the same, the row does not."""
    original, weights = commit.kernels.fold_matrix_f, commit.second_weights
    point = []

    def remember(transcript, code, s):
        point[:] = s[len(s) - code.row_bits :]
        return weights(transcript, code, s)

    def fold(x, v):
        out = original(x, v)
        if point:
            eq = ff.f_list(ff.eq_table(point)[:, :2])
            row = np.ascontiguousarray(out[:, 0, 1])
            for k, change in enumerate((eq[1], -eq[0])):
                value = ff.f_item(row, k) + change
                out[:, 0, 1, k] = value.re, value.im
        return out

    patches = (
        mock.patch.object(commit, "second_weights", remember),
        mock.patch.object(commit.kernels, "fold_matrix_f", fold),
    )
    assert toy_verdict(*patches) == "opening/second-row"


def test_a_sum_check_message_of_the_claims_that_is_not_the_sum_is_caught():
    original = SecondCommitment.prove

    def prove(self, transcript, claims, eq):
        product, calls = commit.kernels.product_round, []

        def lie(*args):
            calls.append(args)
            t0, tinf = product(*args)
            return (t0 + 1, tinf) if len(calls) == 1 else (t0, tinf)

        with mock.patch.object(commit.kernels, "product_round", lie):
            return original(self, transcript, claims, eq)

    assert toy_verdict(mock.patch.object(SecondCommitment, "prove", prove)) == "opening/claims"


def false_triples(*errors):
    """Triples whose z is off by the given amounts, from the first two on at the root of the digits (one equation)."""
    original = Pads.draw

    def draw(*args):
        pads = original(*args)
        for i, error in enumerate(errors, 2):  # the toy's two products come first
            pads.z[0, i] = (int(pads.z[0, i]) + error) % P
        return pads

    return mock.patch.object(Pads, "draw", draw)


def test_triples_that_are_no_products_are_caught():
    assert toy_verdict(false_triples(1), strict=True) == "range-check/digits"
    assert toy_verdict(false_triples(1)) == "hidden-equations"
    # the errors cancel in the only equation that holds them
    assert toy_verdict(false_triples(1, -1)) == "pads/products"


def pad_prover(**changes):
    """A pad prover that alters a test polynomial before it is sent; see PadCommitment.prove."""
    original = PadCommitment.__init__

    def init(self, pads, secret):
        original(self, pads, secret)
        for name, change in changes.items():
            setattr(self, name, change(self, getattr(self, name).copy()))

    return mock.patch.object(PadCommitment, "__init__", init)


def add_one(self, q):
    q[0, 0] = (int(q[0, 0]) + 1) % P
    return q


def test_a_linear_test_forged_to_the_right_sum_is_caught_by_its_columns():
    """An equation is false by some amount; the prover shifts the polynomial so that its sum fits."""
    w = toy_witness()
    t = next(t for t in toy_layout().circuit.tensors if t.name == "total")
    Digits(w, t)[0, 0, 0] ^= 1
    original = PadCommitment.prove

    def prove(self, transcript, form):
        block = 1 << self.code.block_bits
        q = np.zeros((2, 2 * block), np.uint64)
        error = form.const + sum(
            (ff.f_dot(c, v) for c, v in zip((form.singles, form.x, form.y, form.z), self.all_pads, strict=True)), F.ZERO
        )
        assert error != 0
        shift = -(error / block)
        q[:, 0] = shift.re, shift.im
        self.blind_linear = ff.f_add(self.blind_linear, q)
        return original(self, transcript, form)

    init = PadCommitment.__init__

    def remember(self, pads, secret):
        init(self, pads, secret)
        self.all_pads = (pads.singles, pads.x, pads.y, pads.z)

    patches = (
        mock.patch.object(PadCommitment, "__init__", remember),
        mock.patch.object(PadCommitment, "prove", prove),
    )
    assert toy_verdict(*patches, witness=w) == "pads/linear"


@pytest.mark.parametrize(
    ("polynomial", "name"),
    [("blind_proximity", "pads/proximity"), ("blind_linear", "hidden-equations"), ("blind_product", "pads/products")],
)
def test_test_polynomials_with_another_blinding_than_committed_are_caught(polynomial, name):
    assert toy_verdict(pad_prover(**{polynomial: add_one})) == name


def test_a_product_test_forged_to_vanish_is_caught_by_its_columns():
    """Two false triples; the prover replaces the product polynomial by one that vanishes on the messages."""
    prove = PadCommitment.prove

    def forge(self, transcript, form):
        block, code = 1 << self.code.block_bits, self.code
        fft = ff.f_ifft

        def vanishing(values):
            # the last polynomial interpolated from 2|H| values is the product test
            coefs = fft(values)
            on = ff.f_fft(ff.f_add(coefs, self.blind_product), code.block_bits + 1)
            on[:, 0 : 2 * code.message : 2] = 0
            return ff.f_sub(fft(on), self.blind_product)

        calls = []

        def ifft(values):
            calls.append(values.shape)
            if values.shape == (2, 2 * block) and sum(s == values.shape for s in calls) == 2:
                return vanishing(values)
            return fft(values)

        with mock.patch.object(ff, "f_ifft", ifft):
            return prove(self, transcript, form)

    patches = (false_triples(1, -1), mock.patch.object(PadCommitment, "prove", forge))
    assert toy_verdict(*patches) == "pads/product-columns"


@pytest.mark.parametrize(
    ("which", "name"),
    list(
        enumerate(
            [
                *("proof-of-work", "opening/proximity-nonce", "opening/query-nonce"),
                *("opening/second-query-nonce", "pads/nonce"),
            ]
        )
    ),
)
def test_work_that_was_not_done_is_caught(which, name):
    """The prover goes on with a nonce of no worth and is consistent with it ever after."""
    grind, calls = Transcript.grind, []

    def lazy(self, bits):
        calls.append(bits)
        if len(calls) != which + 1:
            return grind(self, bits)
        nonce = next(n for n in range(1 << 20) if not self._grind_ok(n, 1))
        self.absorb("grind", nonce.to_bytes(8, "little"))
        return nonce

    assert toy_verdict(mock.patch.object(Transcript, "grind", lazy)) == name
    assert len(calls) >= 5


# ------------------------------------------------------------------------------------------------ random combinations


def cancelling_circuit():
    """Small equations between zeros: with the witnesses below, two errors add up to zero."""
    c = Circuit()
    u, i = DomainAxis("u", 2), DomainAxis("i", 3)
    digits = (Digit(balanced(4), 0), Digit(balanced(4), 4))
    a, b, x, p = (c.tensor(n, 2, (3,), digits) for n in "abxp")
    h = c.tensor("h", 2, (2, 3), digits[:1])
    on = lambda t: View(t, (Same("u", 2), Same("i", 3))).whole()  # noqa: E731
    con = c.constraint("members", (u, i))
    con.add("one way", on(a) - on(b))
    con.add("other way", on(b) - on(a))
    c.constraint("entries", (u, i)).add("zero", on(x))
    for index in range(2):
        c.publics.append(PublicTensor(p, index, np.zeros((2, 3), np.int64)))
    rows = np.array([[1, 1, 2], [P - 1, 3, 1]], np.uint64)
    c.links.append(ModularLink("rows", [(h, rows)], np.zeros((2, 2, 2), np.uint64)))
    layout = Layout(c)
    return layout, Witness(layout), {t.name: t for t in c.tensors}


# Name of the constraint, tensor, digits (digit, u, ...) set to one, digits set to minus one.
CANCELLING = {
    "two members": ("members", "a", [(0, 0, 0)], []),
    "two entries": ("entries", "x", [(0, 0, 0)], [(0, 0, 1)]),
    "two steps": ("entries", "x", [(0, 0, 2)], [(0, 1, 2)]),
    "two public entries": ("public/p", "p", [(0, 0, 1)], [(0, 0, 2)]),
    "two public digits": ("public/p", "p", [(0, 1, 1)], [(1, 1, 1)]),
    "two rows of a hash": ("link/rows", "h", [(0, 0, 0, 0)], []),
    "two hashes of a step": ("link/rows", "h", [(0, 0, 0, 1)], [(0, 0, 1, 1)]),
    "hashes of two steps": ("link/rows", "h", [(0, 0, 0, 1)], [(0, 1, 0, 1)]),
}


@pytest.mark.parametrize("lie", CANCELLING)
def test_errors_of_several_equations_do_not_cancel(lie):
    layout, w, tensors = cancelling_circuit()
    name, tensor, up, down = CANCELLING[lie]
    for value, places in ((1, up), (-1, down)):
        for at in places:
            Digits(w, tensors[tensor])[at] = value
    with light_grinding():
        assert full_name(layout, w) == f"constraint/{name}"
        assert verdict(layout, w) == "hidden-equations"


def test_zeros_are_a_witness_of_the_cancelling_circuit():
    layout, w, _ = cancelling_circuit()
    with light_grinding():
        verify_circuit(layout, transcript(), prove_circuit(layout, w, transcript(), strict=True))


# ------------------------------------------------------------------------------------------------ whole proofs


@pytest.mark.parametrize("name", ["x", "w", "y", "a", "sign", "magnitude", "total", "r"])
def test_proof_of_a_toy_witness_with_one_altered_digit_is_rejected(name):
    w = toy_witness(2)
    t = next(t for t in toy_layout().circuit.tensors if t.name == name)
    digits = Digits(w, t)
    at = digits.at(0, 0)
    digits[at] = other_digit(digits[at], t.digits[0].range)
    with pytest.raises(ProofRejected) as caught:
        verify_toy(prove_toy(w))
    assert caught.value.check == "hidden-equations"


def test_proof_of_a_toy_circuit_with_other_public_values_is_rejected():
    layout = toy_layout()
    public = layout.circuit.publics[0]
    values = public.values.copy()
    values.flat[2] = other_digit(values.flat[2], public.tensor.digits[0].range)
    proof = prove_toy()
    with (
        mock.patch.object(layout.circuit, "publics", [PublicTensor(public.tensor, 0, values)]),
        pytest.raises(ProofRejected, match="hidden-equations"),
    ):
        verify_toy(proof)


@pytest.mark.parametrize("lie", ["weight", "threshold"])
def test_full_proof_of_a_false_witness_is_rejected(mlp, lie):
    if lie == "threshold":
        certificate, layout, w, _ = lying_threshold(mlp.case)
        w.put(certificate.score.slack.tensor, np.array([0], object))
        w.fill_carries(certificate.score.slack_carries, ())
        assert verdict(layout, w) == "hidden-equations"
        return
    t = mlp.tensor("weight/linear1.weight")
    with altered(mlp.witness, t) as (digits,):
        at = (0, t.unroll - 1, *(0 for _ in t.shape))
        digits[at] = other_digit(digits[at], t.digits[0].range)
        assert verdict(mlp.layout, mlp.witness) == "hidden-equations"


# ------------------------------------------------------------------------------------------------ statements


def judged(hashes=None, multiproof=None):
    """How the verifier judges the tiny statement's proof with other public data."""
    c = certified()
    file = ProofFile.parse(c.proved.data)
    file = replace(
        file,
        hashes=file.hashes if hashes is None else hashes,
        multiproof=file.multiproof if multiproof is None else multiproof,
    )
    with pytest.raises((ProofRejected, MalformedProof)) as caught:
        verify_proof(file.to_bytes(), c.model, Expectations(Fraction(30)))
    return getattr(caught.value, "check", "malformed")


def test_hashes_of_samples_that_were_not_drawn_are_rejected():
    c = certified()
    drawn = c.statement.indices()
    others = [i for i in range(c.dataset.n) if i not in drawn][: len(drawn)]
    assert judged(c.dataset.sample_hashes(others), c.dataset.multiproof(others)) == "dataset"
    one_other = [others[0], *drawn[1:]]
    assert judged(c.dataset.sample_hashes(one_other), c.dataset.multiproof(one_other)) == "dataset"


def test_hashes_in_another_order_are_rejected():
    c = certified()
    drawn = c.statement.indices()
    assert judged(c.dataset.sample_hashes(sorted(drawn, reverse=True))) == "dataset"
    assert judged(c.dataset.sample_hashes([drawn[1], drawn[0], *drawn[2:]])) == "dataset"


def test_too_few_or_repeated_hashes_are_rejected():
    c = certified()
    hashes = c.dataset.sample_hashes(c.statement.indices())
    assert judged(hashes[:-1]) == "malformed"
    assert judged(np.concatenate([hashes, hashes[:1]])) == "malformed"
    assert judged(np.concatenate([hashes[:-1], hashes[:1]])) == "dataset"
