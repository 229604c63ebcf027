"""No other witness satisfies the identities."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm, prod

import numpy as np
import pytest

from circuits.compile import Certificate, Plan
from circuits.head.score import Q_LIMIT, StepSize
from circuits.head.softmax import MAX_SCALE
from circuits.language.constraints import Circuit, Constraint, Expr
from circuits.language.layout import Layout
from circuits.language.tensors import Digit, Range, Tensor
from circuits.layers.avgpool2d import Averaging
from circuits.layers.groupnorm import GroupNorm
from prover.execution.values import read_value
from prover.execution.witness import Witness
from tests.builders import (
    Case,
    Digits,
    Graph,
    build,
    link_values,
    no_row,
    tiny_mlp,
    violations,
    wide,
)
from tests.soundness.honest import (
    CASES,
    STATED,
    copy_of,
    honest,
    members,
    rejected,
)
from zkcert.core.field import P
from zkcert.errors import RangeOverflow


def tensors_of(e: Expr) -> set[Tensor]:
    return {view.tensor for form in (e.linear, *(f for pair in e.products for f in pair)) for view, _, _ in form.terms}


def readers(circuit: Circuit) -> dict[Tensor, list[tuple[Constraint, Expr]]]:
    out: dict[Tensor, list[tuple[Constraint, Expr]]] = {t: [] for t in circuit.tensors}
    for con, _, e, _ in members(circuit):
        for t in tensors_of(e):
            out[t].append((con, e))
    return out


def notices(certificate: Certificate, w: Witness, t: Tensor, where: list[tuple[Constraint, Expr]]) -> bool:
    """Whether an identity, lookup, public tensor or link that involves t is violated."""
    circuit = certificate.circuit
    if any(np.any(w.expression(e, con.out, con.summed)) for con, e in where):
        return True
    for lookup in circuit.lookups:
        if any(view.tensor is t for form in lookup.components for view, _, _ in form.terms) and no_row(w, lookup):
            return True
    if any(np.any(w.array(t)[:, pub.index] != pub.values) for pub in circuit.publics if pub.tensor is t):
        return True
    return any(
        np.any(link_values(link, w) != link.target)
        for link in circuit.links
        if any(part is t for part, _ in link.parts)
    )


def neighbours(value: int, digit: Digit) -> list[int]:
    return [v for v in (value - 1, value + 1) if digit.range.lo <= v <= digit.range.hi]


@pytest.mark.parametrize(("name", "limit"), [("minute", 600), ("cnn", 2), *((name, 1) for name in tuple(CASES)[1:-1])])
def test_every_change_of_a_single_digit_is_noticed(name, limit):
    """No tensor is unconstrained: for each digit and unrolled index, up to `limit` positions.

    There are no exceptions: the freedom to choose among ties (below) takes two changes.
    """
    certificate, w = honest(name)
    where, rng = readers(certificate.circuit), np.random.default_rng(2)
    unnoticed = set()
    for t in certificate.circuit.tensors:
        size, digits = prod(t.shape), Digits(w, t)
        count = min(size, 3 if t.name == "sample/randomness" else limit)
        for (i, digit), u in ((x, u) for x in enumerate(t.digits) for u in range(t.unroll)):
            for at in rng.choice(size, count, replace=False).tolist():
                place = (i, u, *np.unravel_index(at, t.shape))
                old = int(digits[place])
                choices = neighbours(old, digit)
                if not choices:  # the remainder of a division by one
                    assert digit.range.size == 1
                    continue
                digits[place] = choices[int(rng.integers(len(choices)))]
                if not notices(certificate, w, t, where[t]):
                    unnoticed.add(f"{t.name}[{i}]")
                digits[place] = old
    assert unnoticed == set()


@pytest.mark.parametrize("name", CASES)
def test_every_value_has_one_encoding(name):
    """Digits below the top one fill their place exactly; so do all values between a tensor's bounds."""
    for t in honest(name)[0].circuit.tensors:
        shifts = [d.shift for d in t.digits]
        assert shifts[0] == 0
        for d, above in zip(t.digits, shifts[1:], strict=False):
            assert d.range.size << d.shift == 1 << above, t.name


INNER = ("inner", -3 << 32, 6 << 32, "from the lower bound to below the upper (Layers)")
SIXTHS = {
    "hardsigmoid": (INNER, ("(forward|backward).remainder", 0, 6, "divided by 6 (Layers)")),
    "hardswish": (INNER, ("(forward|input-gradient).remainder", 0, 6 << 32, "divided by 6 2^32 (Layers)")),
}
"""Of layers that divide by six, (tensor, least value, number of values, why no more)."""


def certified(plan: Plan) -> list[tuple[str, int, int, str]]:
    """Of statistics of s_t, and of |w|."""
    out = []
    if plan.statistic != "std-log-ratio":
        slack = 66 if plan.statistic == "max" else 132
        out += [
            ("score/y", 74, "s_t < rho 2^23, and 48 bits behind the point (Score)"),
            ("score/scaled-norm", 176, "4^(31-k) n < 2^172 (Score)"),
            ("score/y2", 154, "below 2^148 (Score)"),
            ("score/(low|high)", 198, "c y^2 <= a^2 m < c (y + 1)^2 (Score)"),
            ("score/slack", slack, "the score is at most tau"),
        ]
        out += [] if plan.statistic == "max" else [("score/squares", 176, "at most 1,024 squares")]
        out += [("score/sum", 84, "a sum of at most 1,024 y")] if plan.statistic == "std" else []
    if plan.eta is not None:
        out += [("sign/.*", 1, "a bit"), ("magnitude/.*", 40, "w = m + 1 or -m (Gradient)")]
    return [(pattern, 0, 1 << bits, why) for pattern, bits, why in out]


def ranges(case: Case) -> list[tuple[str, int, int, str]]:
    """(pattern of a tensor's name, least value, number of values, why no more); the first pattern that fits counts.

    What docs/spec says of values, stated again; in brackets the section of semantics.md. Carries are not here: they
    follow from what they carry, whatever their range (`carry_digits`).
    """
    plan = case.plan
    d, terms = plan.divisor * plan.places, plan.batch * plan.places
    tables = {n["weight"] for n in plan.graph if n["op"] == "unembedding"}
    biases = [re.escape(n["bias"]) for n in plan.graph if n.get("bias")]
    unscaled = ("positions", "prepend", "embedding")
    biases += [re.escape(n["weight"]) for n in plan.graph if n["op"] in unscaled and n["weight"] not in tables]
    averages = [layer for layer in Certificate(plan).layers if isinstance(layer, Averaging)]
    divisors = {layer.name: max(layer.divisors) for layer in averages}
    bounds = {n["name"]: (n["low"], n["high"]) for n in plan.graph if n["op"] == "hardtanh"}
    counts = {layer.name: layer.n for layer in Certificate(plan).layers if isinstance(layer, GroupNorm)}
    total = 44 + min(22, 13 + (plan.classes - 1).bit_length())
    ratio = plan.rho**2 / (256 * terms)
    common = lcm(ratio.denominator, plan.eps.denominator)
    c1, c2 = int(ratio * common), int(plan.eps * common)
    widest = max(c1 << 110, c2 << 132) // gcd(c1, c2)
    numerator = -(-(widest.bit_length() + 1) // 22) * 22
    unsigned = {
        ".*/(sign|choice|is-max|is-largest|chunks|far|limb-shift|bit-shift|c[0-3]|k)|label|token": (
            1,
            "a bit, or a choice",
        ),
        "sample/.*": (8, "a byte: SIS binds short vectors only (commitment.md)"),
        # differences: that they are not negative is what they are for; above, they are below their minuend
        ".*/magnitude": (44, "z = m + 1 or -m, one m for each z; |z| <= 2^44 (Layers)"),
        "hard.*/(above|below)": (1, "a bit"),
        "hard.*/excess": (44, "beyond a bound, or above the lower one: one for each z (Layers)"),
        "(function|attention).*/(over|under)": (22, "beyond the last or the first segment (functions.md)"),
        "(function|attention).*/turn.remainder": (22, "divided by 2^22 (functions.md)"),
        "(function|attention).*/step.remainder": (32, "divided by 2^32 (functions.md)"),
        "groupnorm.*/(squares|v)": (110, "2^20 squares of values (Layers)"),
        "groupnorm.*/a2": (88, "A < 2^43"),
        "groupnorm.*/(low|high)": (154, "A^2 M <= 2^128 n < (A + 1)^2 M (Layers)"),
        "attention.*/sum": (44, "at most 2^11 exponentials up to 2^32 + 1 (Layers)"),
        "attention.*/p.(remainder|slack)": (44, "P S + R = 2^32 e with R < S, S secret: S - 1 - R is not negative"),
        ".*/slack": (44, "no entry of a window is larger than the maximum"),
        "softmax/x|loss/x-true": (44, "no logit is larger than the maximum; exp takes 44 bits"),
        "scale/(largest|below)": (58, "no sample has a larger D"),
        "scale/(upper|lower)": (58, "2^(55-k) <= M < 2^(56-k)"),
        "loss/above-minimum": (82, "L >= B 2^24 (Head)"),
        "step-size/(low|high)": (198, "b^2 q^2 n <= a^2 2^144 < b^2 (q+1)^2 n (Gradient)"),
        "softmax/p.slack": (total, "p S + R = 2^56 e with R < S, S secret: S - 1 - R is not negative"),
        # remainders of a division by a power of two: exactly below the divisor, or the quotient is not the floor
        "(z|y|u|h|dx[01]?|g|e|v|slope|scaled|sum|dp|mean|dz).remainder": (32, "divided by 2^32 (Layers, Gradient)"),
        "perturbation/.*.remainder": (40, "divided by 2^40 (Gradient)"),
        "input/channel[0-9]+.remainder": (16, "divided by 2^16 (Input)"),
        "(softmax/dz|score/y).remainder": (24, "divided by 2^24 (Head, Score)"),
        "softmax/exp/y[0-4].remainder|.*/w[234].remainder": (56, "divided by 2^56 (Head)"),
        ".*/w1.remainder": (66, "divided by 2^66: the mantissa has 66 bits"),
        ".*/a2.remainder": (57, "divided by 2^57"),
        "softmax/exp/square.remainder": (9, "divided by 2^9"),
        "softmax/p.remainder": (total, "of a division by S; p.slack keeps it below S"),
        # parts of a number below its next choice: exactly below the choice's unit, or another choice would do
        "softmax/exp/low": (18, "below the first chunk, of 2^18"),
        "softmax/exp/far-rest": (6, "above 2^38: x has 44 bits"),
        ".*/top-rest": (17, "below c_0, of 2^17"),
        ".*/rest1": (48, "below c_1, of 2^48"),
        ".*/rest2": (44, "below c_2, of 2^44"),
        ".*/rest3": (40, "below c_3, of 2^40"),
        # results: unique by their identity; wide enough for all honest values, narrow enough for what reads them
        "softmax/total": (total, "a sum of at most 1023 values up to 2^56"),
        "softmax/(p|wrong|missing|true-delta)": (58, "a probability: up to 2^56"),
        "softmax/exp/(series|value|y[0-4])|.*/w[1-4]": (58, "up to 2^57"),
        "softmax/exp/square": (28, "(u^2 + 2^8) / 2^9, u below 2^18"),
        "softmax/exp/cube": (12, "a_2 u / (3 2^32): below 2^12"),
        ".*/ln[a-z-]*/z": (41, "w_4 - 2^56: the fourth stage leaves below 2^-15"),
        ".*/a2": (26, "z^2 / 2^57"),
        ".*/a3": (10, "2 a_2 z / (3 2^56)"),
        "loss/total": (82, "L: B samples, each below 64 + ln 1023 nats"),
        "squares/.*[.](00|11)": (59, "at most 2^17 squares of digits up to 2^21"),
        "step-size/n|score/squares": (110, "n is below 2^110 (Gradient), as many limbs for T y^2"),
        "step-size/q2": (132, "q is below 2^60"),
        "step-size/(q2n|2qn)": (154, "q^2 n is at most rho^2 2^144"),
        "score/scaled-loss": (132, "4^k L < 2^132 (Score)"),
        "score/numerator": (numerator, "c_1 n + c_2 L_k (Score)"),
        "loss/ln/normal": (66, "as S"),
        "score/ln-loss/(moved|normal)": (132, "as L_k"),
        "score/ln-numerator/(moved|normal)": (numerator, "as the numerator"),
    }
    balanced = {
        "(function|attention).*/(segment|offset|bend|turn)": (
            22,
            "t in [-2^21, 2^21); entries of the table; |w| <= 2^20",
        ),
        "(function|attention).*/step": (23, "|v| <= 2^22: |f'| is below 2"),
        "(function|attention).*/slope": (34, "|d| < 2^33"),
        "weight/.*|embedding.*/y": (40, "|w| < 2^39 (Input)"),
        "step-size/q": (60, "q below 2^60 - 2^43 - 2^21 (Gradient)"),
        "score/y": (40, "|y| < 2^39 (Score)"),
        "score/sum": (52, "a sum of at most 1,024 y"),
        "batchnorm.*/u": (39, "|u| < 2^38 (Layers)"),
        "squares/.*[.]01": (60, "at most 2^17 products of digits up to 2^21"),
        "input|gradient/.*|[EV]/.*|attention.*/(x|q|p|exp|dp|dq)|.*/(max|sum|dy|share|positive|kept|mean|m1|m2|slope)|"
        ".*/(z|y|h|dx[01]?|dz|a|e)": (
            44,
            "|x| < 2^43 (Layers)",
        ),
    }
    lowest = {  # of the others, two balanced digits, it is that of the digits
        "(function|attention).*/(segment|offset|bend|turn)": -1 << 21,
        "(function|attention).*/step": -1 << 22,
        "squares/.*[.]01": -1 << 59,
        "step-size/q": -(1 << 43) - (1 << 21),
        "score/sum": -(1 << 51) - (1 << 43) - (1 << 21),
    }
    return [
        *certified(plan),
        ("score/slack", 0, 1 << 110, "the deviation is at most tau"),
        *((f"update/{b}.remainder", 0, d, "divided by D (Gradient)") for b in biases),
        *(
            (f"{k}/(forward|backward|share)[.](remainder|slack)", 0, size, "divided by the size of the window (Layers)")
            for k, size in divisors.items()
        ),
        *(
            (f"{k}/y", int(low * 2**32), int((high - low) * 2**32), "from the lower bound to below the upper (Layers)")
            for k, (low, high) in bounds.items()
        ),
        *((f"{k}/(mean|m1).remainder", 0, n, "divided by the number of entries (Layers)") for k, n in counts.items()),
        *((f"{k}/m2.remainder", 0, n << 32, "divided by 2^32 times that (Layers)") for k, n in counts.items()),
        *(
            (f"{re.escape(n['name'])}/{what}", low, size, why)
            for n in plan.graph
            for what, low, size, why in SIXTHS.get(n["op"], ())
        ),
        ("update/.*.remainder", 0, d << 32, "divided by 2^32 D (Gradient)"),
        ("softmax/exp/cube.remainder", 0, 3 << 32, "divided by 3 2^32"),
        (".*/a3.remainder", 0, 3 << 56, "divided by 3 2^56"),
        *((pattern, 0, 1 << bits, why) for pattern, (bits, why) in unsigned.items()),
        *(
            (pattern, lowest.get(pattern, -(1 << bits - 1) - (1 << 21)), 1 << bits, why)
            for pattern, (bits, why) in balanced.items()
        ),
    ]


def has_range(t: Tensor, lo: int, size: int) -> bool:
    """Whether the values of a tensor are [lo, lo + size), each in one way."""
    full = all(d.range.size << d.shift == 1 << above.shift for d, above in pairwise(t.digits))
    return t.digits[0].shift == 0 and full and t.bounds() == (lo, lo + size - 1)


def carry_digits(e: Expr, summed: int, carry: Tensor) -> list[tuple[int, int]]:
    """(least value, number of values) of each digit that a carry should have: what member `e`, which is something minus
    a power of two times the carry, asks for, in the sizes of tables that carries may use (circuit-language.md)."""
    (unit,) = {-c >> carry.digits[d].shift for v, d, c in e.linear.terms if v.tensor is carry}
    (lo, hi), (low, high) = e.bounds(summed), carry.bounds()
    lo, hi = (lo + unit * high) // unit, (hi + unit * low) // unit  # without the carry: its bounds are those of a form
    out = []
    while hi - lo >= 1 << 22:
        out.append((0, 1 << 22))
        lo, hi = lo >> 22, hi >> 22
    bits = next(w for w in (1, 2, 3, 4, 6, 8, 10, 12, 14, 18, 22) if hi - lo < 1 << w)
    if hi - lo >= 1 << 14 and (hi >> 10) - (lo >> 10) < 1 << 6:
        out.append((0, 1 << 10))
        lo, hi = lo >> 10, hi >> 10
        bits = next(w for w in (1, 2, 3, 4, 6) if hi - lo < 1 << w)
    return [*out, (lo, 1 << bits)]


CARRY = re.compile(r"[.]carry\d+$")

RANGES = [*STATED, "flat"]


@pytest.mark.parametrize("name", RANGES)
def test_values_range_over_exactly_what_they_should(name):
    """Remainders over their divisor, differences from zero on: then quotients, parts and signs are unique."""
    patterns, seen = ranges(CASES[name]()), set()
    for t in honest(name)[0].circuit.tensors:
        if not CARRY.search(t.name):
            pattern, lo, size, _ = next(p for p in patterns if re.fullmatch(p[0], t.name))
            assert has_range(t, lo, size), t.name
            seen.add(pattern)
    if name == "cnn":
        others = {"input/channel[0-9]+.remainder", "batchnorm.*/u", "hard.*/(above|below)", "hard.*/excess"}
        others |= {f"groupnorm.*/{own}" for own in ("(squares|v)", "a2", "(low|high)")}
        others |= {pattern for pattern, *_ in patterns if pattern.startswith(("(function", "attention"))}
        assert {p for p, *_ in patterns} - seen == others


@pytest.mark.parametrize("name", RANGES)
def test_carries_range_over_exactly_what_they_carry(name):
    """A carry follows from its own member, so that no range could let in another one; but a wider range would make sums
    larger, up to p. Each is in one member minus a power of two times itself, and plain in the next."""
    where: dict[Tensor, list[tuple[Constraint, Expr, int]]] = {}
    for con, _, e, count in members(honest(name)[0].circuit):
        for t in tensors_of(e):
            if CARRY.search(t.name):
                where.setdefault(t, []).append((con, e, count))
    assert {t for t in honest(name)[0].circuit.tensors if CARRY.search(t.name)} == where.keys()
    for t, ((con, e, count), (other, _, _)) in where.items():
        assert con is other
        assert [(d.range.lo, d.range.size) for d in t.digits] == carry_digits(e, count, t), t.name


@pytest.mark.parametrize("name", ["cnn", "batch-norm", "long sums"])
def test_a_range_wider_by_one_value_at_either_end_is_noticed(name):
    """Negative control of the above, for every digit of every tensor."""
    patterns = ranges(CASES[name]())
    for t in honest(name)[0].circuit.tensors:
        if CARRY.search(t.name):
            continue
        _, lo, size, _ = next(p for p in patterns if re.fullmatch(p[0], t.name))
        for i, d in enumerate(t.digits):
            for wider in (Range(d.range.size + 1, d.range.lo), Range(d.range.size + 1, d.range.lo - 1)):
                digits = (*t.digits[:i], Digit(wider, d.shift), *t.digits[i + 1 :])
                assert not has_range(Tensor(t.name, t.unroll, t.shape, digits), lo, size), (t.name, i)


@pytest.mark.parametrize("name", RANGES)
def test_digits_are_looked_up_in_the_table_of_their_range(name):
    """The range check looks up what the circuit declares, and only that."""
    layout = honest(name)[0].layout
    w = Witness(layout)
    for t in layout.circuit.tensors:
        for i in range(len(t.digits)):
            w.write(t, i, np.full(t.sizes, layout.circuit.tensors.index(t) * 16 + i + 1))
    for seg in layout.segments:
        for code in np.unique(w.x[seg.start : seg.stop]).tolist():
            if code:  # else the padding of an axis
                t, i = layout.circuit.tensors[(code - 1) // 16], (code - 1) % 16
                r = t.digits[i].range
                assert (layout.tables[seg.cls], seg.shift) == (r.size, -r.lo), (t.name, i)


def transplanted(w: Witness, circuit: Circuit) -> Witness:
    """The digits of a witness of a circuit with the same tensors."""
    out = Witness(Layout(circuit))
    out.x[:] = w.x
    return out


def test_witnesses_of_another_model_or_other_samples_break_what_is_public_and_nothing_else():
    case = tiny_mlp()
    certificate, _, _ = case.run()
    assert [(p.tensor, p.index) for p in certificate.circuit.publics] == [
        (certificate.net.weights[name], 0) for name in case.plan.weights
    ]
    for name in ("linear1.weight", "linear3.bias"):
        params = {k: v.copy() for k, v in case.model.params.items()}
        params[name].ravel()[-1] += 2.0**-20
        options = {"pixels": case.pixels, "labels": case.labels}
        _, w, _ = build(case.model.graph, params, case.model.input, **options).run()
        assert violations(certificate.circuit, transplanted(w, certificate.circuit)) == [f"public weight/{name}"]
    pixels, labels = case.pixels.copy(), case.labels.copy()
    pixels[1, 2, 0, 0, 0] ^= 1
    labels[0, 0] = (labels[0, 0] + 1) % 4
    for changed in ({"pixels": pixels, "labels": case.labels}, {"pixels": case.pixels, "labels": labels}):
        _, w, _ = build(case.model.graph, case.model.params, case.model.input, **changed).run()
        assert violations(certificate.circuit, transplanted(w, certificate.circuit)) == ["link sample"]


def test_the_relu_bit_can_only_be_the_sign():
    """Flipped at a positive, a negative or a zero pre-activation, it asks for a magnitude of -1 or less."""
    g = Graph(np.random.default_rng(16), [1, 2, 3]).conv(3, (1, 1))
    g.params["conv2d0.weight"][:] = np.array([1, -1, 0]).reshape(3, 1, 1, 1)
    g.params["conv2d0.bias"][:] = [3, -3, 0]
    certificate, w, _ = g.relu().flatten().linear(2).case(batch=1, rho=Fraction(1, 1000)).run()
    relu = certificate.layers[1]
    bit, y = (w.value(t) for t in (relu.bit.tensor, relu.y.tensor))
    z = np.stack([read_value(relu.x, w, p) for p in range(3)])
    assert (z[0, 0, 0] > 0).all() and (z[0, 0, 1] < 0).all() and not z[0, 0, 2].any()
    for at in ((0, 0, c, 2 * c) for c in range(3)):
        flipped, magnitude, output = bit.copy(), np.abs(z) - bit, y.copy()
        flipped[at] ^= 1
        magnitude[at] = z[at] - 1 if flipped[at] else -z[at]
        output[at] = z[at] if flipped[at] else 0
        assert magnitude[at] < 0
        for forged in (magnitude[at], -magnitude[at]):
            magnitude[at] = forged
            assert rejected(w, {relu.bit.tensor: flipped, relu.magnitude.tensor: magnitude, relu.y.tensor: output})


@pytest.mark.parametrize("tied", [False, True])
def test_only_the_first_maximum_of_a_window_can_be_chosen(tied):
    g = Graph(np.random.default_rng(6), [1, 2, 3]).conv(1, (1, 1), bias=False).pool("maxpool2d", (2, 2), (1, 1))
    pixels = np.full((2, 1, 1, 2, 3), 9, np.uint8) if tied else None
    certificate, w, _ = g.flatten().linear(2).case(batch=1, pixels=pixels, rho=Fraction(1, 1000)).run()
    pool = certificate.layers[1]
    x = w.value(pool.x.tensor)[0, 0, 0]
    choice, y, slack = (w.value(t) for t in (pool.choice.tensor, pool.y.tensor, pool.slack.tensor))
    windows = x[pool.reads.index]  # [window position, output]
    first = windows.argmax(axis=0)
    assert not tied or not first.any()
    for s in range(2):
        for k in range(4):
            bits, ys, slacks = choice.copy(), y.copy(), slack.copy()
            bits[0, 0, 0].reshape(4, 2)[:, s] = np.arange(4) == k
            ys[0, 0, 0, s] = windows[k, s]
            slacks[0, 0, 0].reshape(4, 2)[:, s] = windows[k, s] - windows[:, s] - (np.arange(4) < k)
            forged = {pool.choice.tensor: bits, pool.y.tensor: ys, pool.slack.tensor: slacks}
            assert rejected(w, forged) == (k != first[s])


def test_ties_may_be_attained_by_either_and_it_makes_no_difference():
    """The only freedom there is: which of several equal logits, or samples, is said to be the largest."""
    certificate, w = honest("ties")
    head = certificate.head
    for view in (head.is_top, head.is_largest):
        bits = w.value(view.tensor)[0]
        assert bits[0, ..., 0].all()
        forged = bits.copy()
        forged[0] = np.roll(bits[0], 1, axis=-1)  # the first pass, or step
        assert not rejected(w, {view.tensor: forged})
        forged[0] = 1
        assert rejected(w, {view.tensor: forged})
    certificate, w = honest("saturated")
    for view in (certificate.head.is_top, certificate.head.is_largest):
        assert rejected(w, {view.tensor: np.roll(w.value(view.tensor), 1, axis=-1)})


@pytest.mark.parametrize(("name", "least"), [("cnn", 0), ("saturated", 10), ("well fitted", MAX_SCALE)])
def test_no_other_loss_scale_is_possible(name, least):
    certificate, w = honest(name)
    head = certificate.head
    scale, largest = w.value(head.scale.tensor), wide(w, head.largest)[0]
    true = scale[0, ::2].argmax(axis=1)
    assert true.min() == least
    for k in range(MAX_SCALE + 1):
        forged = scale.copy()
        forged[0, 0] = np.arange(MAX_SCALE + 1) == k
        upper, lower = wide(w, head.upper), wide(w, head.lower)
        upper[0, 0] = (1 << (56 - k) if k else 1 << 57) - 1 - largest[0]
        lower[0, 0] = largest[0] - (1 << (55 - k))
        if k != true[0]:
            fits = upper[0, 0] >= 0 and lower[0, 0] >= 0
            assert not fits
            assert rejected(w, {head.scale.tensor: forged, head.upper.tensor: upper, head.lower.tensor: lower})
    unscaled = scale.copy()
    unscaled[0, 1] = np.arange(MAX_SCALE + 1) == 1
    assert rejected(w, {head.scale.tensor: unscaled})


@pytest.mark.parametrize("change", [-1, 1])
def test_no_other_quotient_of_the_softmax_is_possible(change):
    certificate, w = honest("cnn")
    head = certificate.head
    p, rem, slack, total = (wide(w, view) for view in (head.p, head.rem, head.slack, head.total))
    at = (0, 1, 2, 0)
    p[at] += change
    rem[at] -= change * total[at[:3]]
    slack[at] += change * total[at[:3]]
    assert rem[at] < 0 or slack[at] < 0
    assert rejected(w, {head.p.tensor: p, head.rem.tensor: rem, head.slack.tensor: slack})


@pytest.mark.parametrize("change", [-1, 1, -(1 << 22), 1 << 22, -(1 << 44), 1 << 44, "negative", "next negative"])
@pytest.mark.parametrize("name", ["cnn", "flat"])
def test_no_other_step_size_is_possible(name, change):
    """Neither one that is off in any limb, nor a negative one, nor with squares and slacks modulo their limbs."""
    certificate, w = honest(name)
    size = certificate.size
    q, n, rho = wide(w, size.q), wide(w, size.n), size.rho
    assert (q >> 44 > 0).all() == (name == "flat")
    q[0, 1] = -q[0, 1] - (change == "next negative") if isinstance(change, str) else q[0, 1] + change
    target, b = rho.numerator**2 << 144, rho.denominator**2
    values = {
        size.q: q,
        size.qq: q * q,
        size.x1: q * q * n,
        size.x2: (2 * q + 1) * n,
        size.low: target - b * q * q * n,
        size.high: b * (q + 1) ** 2 * n - target - 1,
    }
    assert (values[size.low] < 0).any() or (values[size.high] < 0).any()
    assert rejected(w, {view.tensor: value for view, value in values.items()})
    wrapped = {view.tensor: value % (1 << 22 * len(view.tensor.digits)) for view, value in values.items()}
    assert refilled_is_rejected(w, size, {**wrapped, size.q.tensor: q})


def refilled_is_rejected(w: Witness, size: StepSize, changes: dict[Tensor, np.ndarray]) -> bool:
    """`rejected`, with the carries that fit best."""
    w = copy_of(w)
    try:
        for t, values in changes.items():
            w.put(t, values)
        w.fill_carries_in(size.con)
    except RangeOverflow:
        return True
    return any(name.startswith("step-size/") for name in violations(w.circuit, w))


def test_the_limits_of_step_sizes_are_those_of_their_digits():
    size = honest("cnn")[0].size
    assert size.q.tensor.bounds() == (-(1 << 43) - (1 << 21), Q_LIMIT - 1)


def test_a_threshold_below_the_score_has_no_slack():
    case = tiny_mlp()
    _, _, trace = case.execute()
    certificate, w, _ = case.execute(Fraction(trace.score) - Fraction(1, 1000))
    score = certificate.score
    slack = (case.plan.steps * score.tau) ** 2 - trace.variance
    assert slack < 0
    for value in (slack, slack % (1 << 110), slack % P):
        assert rejected(w, {score.slack.tensor: np.array([value], object)})
