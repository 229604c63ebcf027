"""One digit of a witness at a time: every digit is bound by some constraint."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.language.tensors import BIT
from tests.builders import fan, link_values, tiny_mlp, violations
from tests.soundness.malicious.forging import altered, honest, other_digit, reads, strict_name

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


@pytest.mark.parametrize("case", ["cnn", "q32", "long sums"])
def test_no_digit_of_the_witness_is_free(cnn, case):
    """Over the integers: some identity, public value or hash breaks whichever digit moves within its range."""
    others = {"q32": lambda: tiny_mlp(kind="q32", variant="sam", batch=2), "long sums": lambda: fan(4, 5, batch=1)}
    h = cnn if case == "cnn" else honest(others[case]())
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
