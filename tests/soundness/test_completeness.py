"""Honest witnesses satisfy every identity, and no identity can reach p."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.language.constraints import BoundError, Circuit, Congruence, Constraint, Expr, product
from circuits.language.forms import View
from circuits.language.layout import Layout
from circuits.language.sources import ONCE, Axis, Scaled, Sum
from circuits.language.tensors import Digit
from circuits.language.wide import Domain, Limbs, limb_forms
from circuits.net import VALUE, WEIGHT, Committed, Contraction, Net, Output
from circuits.value import Value
from prover.execution.head.softmax import GradientTooSmall
from prover.execution.values import put_output, read_value
from prover.execution.witness import Witness
from tests.builders import (
    Digits,
    exact_values,
    grid_case,
    random_case,
    tiny_mlp,
    violations,
)
from tests.soundness.honest import (
    CASES,
    copy_of,
    honest,
    members,
)
from zkcert.core.field import P

GRID = (1, 4, 10, 15, 17, 23)


@pytest.mark.parametrize("name", CASES)
def test_honest_witnesses_satisfy_everything(name):
    certificate, w = honest(name)
    assert violations(certificate.circuit, w) == []


@pytest.mark.parametrize("seed", GRID)
def test_honest_witnesses_of_random_networks_satisfy_everything(seed):
    try:
        certificate, w, _ = grid_case(seed).run()
    except GradientTooSmall:
        pytest.fail("choose another seed")
    assert violations(certificate.circuit, w) == []


def test_a_revealed_variance_is_public_and_right():
    case = tiny_mlp()
    _, _, trace = case.execute()
    certificate, w, _ = case.run(tau=Fraction(2), revealed=trace.variance)
    assert violations(certificate.circuit, w) == []
    certificate, w, _ = case.run(tau=Fraction(2), revealed=trace.variance + 1)
    assert violations(certificate.circuit, w) == ["public score/slack"]


def extreme(circuit: Circuit, choose) -> Witness:
    """A witness, dishonest, whose digits are all at an end of their range."""
    w = Witness(Layout(circuit))
    for t in circuit.tensors:
        for i, d in enumerate(t.digits):
            w.write(t, i, np.where(choose(t.sizes), d.range.hi, d.range.lo))
    return w


@pytest.mark.parametrize("name", CASES)
def test_no_identity_can_reach_p_whatever_the_digits(name):
    """Every bound is below p, and no extreme assignment of digits leaves the claimed interval."""
    certificate, honest_w = honest(name)
    circuit, rng = certificate.circuit, np.random.default_rng(0)
    choices = (np.zeros, np.ones, lambda sizes: rng.integers(0, 2, sizes))
    witnesses = [honest_w, *(extreme(circuit, choose) for choose in choices)]
    for con, label, e, count in members(circuit):
        lo, hi = e.bounds(count)
        congruence = isinstance(con, Congruence)
        assert max(-lo, hi) < (P << 58 if congruence else P), f"{con.name}/{label}"
        for w in witnesses:
            values = exact_values(w, con, e) if congruence else w.expression(e, con.out, con.summed)
            assert lo <= values.min() and values.max() <= hi, f"{con.name}/{label}"


@pytest.mark.parametrize("seed", range(300, 312))
def test_no_identity_of_random_circuits_can_reach_p(seed):
    certificate = Certificate(random_case(seed).plan)
    certificate.close(Fraction(1))
    assert all(max(map(abs, e.bounds(count))) < P for _, _, e, count in members(certificate.circuit))


def test_bounds_are_attained_for_a_product_of_values():
    """The interval of a contraction is exact, not merely safe."""
    certificate, _ = honest("cnn")
    con, label, e, count = next(m for m in members(certificate.circuit) if m[0].name == "linear7/forward")
    w = extreme(certificate.circuit, np.zeros)
    ((a, b),) = e.products
    forms = [w.form(x, (*con.out, *con.summed)) for x in (a, b)]
    assert label == "z[0:1]" and int((forms[0] * forms[1]).max()) * count == Expr(((a, b),)).bounds(count)[1]


def contraction(terms: int, other: tuple[Digit, ...]) -> Constraint:
    net, o, f = Net(2, 1), Axis("o", 2), Axis("f", terms)
    x, w = net.circuit.tensor("x", 1, (terms,), VALUE), net.circuit.tensor("w", 2, (terms,), other)
    con = net.circuit.constraint("product", (o,), (f,))
    factors = View(x, (ONCE, Axis("f", terms))), View(w, (Axis("o", 2), Axis("f", terms)))
    limbs = Limbs().add_product(*map(limb_forms, factors))
    out = View(net.circuit.tensor("y", 2, (), VALUE), (Axis("o", 2),))
    net.rescaled(con, limb_forms(out), limbs, "y")
    return con


@pytest.mark.parametrize(("other", "largest"), [(VALUE, 1 << 15), (WEIGHT, 1 << 16)])
def test_contractions_too_large_for_p_are_refused(other, largest):
    assert len(contraction(largest, other).members) == 3
    words = f"p is 2\\^61-1: it adds up {2 * largest:,} channels or features; take smaller layers"
    with pytest.raises(BoundError, match=words):
        contraction(2 * largest, other)


def test_an_identity_that_could_wrap_is_refused():
    circuit = Circuit()
    axis = Axis("i", 3)
    x = Domain(circuit, (axis,)).wire("x", VALUE)
    con = circuit.constraint("square", (axis,))
    con.add("low digits", product(x.digit(0), x.digit(0)))
    with pytest.raises(BoundError):
        con.add("values", product(x.whole(), x.whole()))
    with pytest.raises(BoundError):
        con.add("scaled", x.whole(1 << 18))
    bound = x.tensor.bounds()
    con.add("largest", x.whole((P - 1) // -bound[0]))


def test_sums_with_negative_weights_are_refused():
    """Their bounds would be wrong: the interval of a digit is not symmetric."""
    with pytest.raises(ValueError):
        Sum(2, (1, -1))
    with pytest.raises(ValueError):
        Scaled("i", (1, -1), 2)


def contractions(certificate: Certificate) -> dict[str, tuple[Contraction, Output]]:
    """Rescaled contractions by name, with what holds their quotient."""
    out: dict[str, tuple[Contraction, Output]] = {}
    for layer in certificate.layers:
        if hasattr(layer, "run"):
            out[f"{layer.name}/z"] = layer.run, layer.out
            if layer.dx is not None:
                out[f"{layer.name}/dx"] = layer.run_input, Committed(layer.dx)
            for i, dx in enumerate(getattr(layer, "dxs", ())):
                if dx is not None:
                    out[f"{layer.name}/dx{i}"] = layer.runs[i], Committed(dx)
    for p in certificate.parameters:
        for name, run, result in (("G", p.run_gradient, p.grad), ("E", getattr(p, "run_e", None), p.e)):
            if run is not None:
                out[f"{name}/{p.g.name}"] = run, Committed(Value.of(result))
        if hasattr(p, "run_v"):
            out[f"V/{p.g.name}"] = p.run_v, Committed(Value.of(p.v))
    return out


def carries_modulo_p(w: Witness, run: Contraction, index: tuple[int, ...]) -> bool:
    """Whether carries within their ranges satisfy all limb equations modulo p at one output index."""
    carry = 0
    for s in run.steps:
        value = int(w.expression(s.value, run.con.out, run.con.summed)[index]) + carry
        if s.carry is None:
            return value % P == 0
        residue = value * pow(1 << (22 * (s.last - s.first)), -1, P) % P
        lo, hi = s.carry.tensor.bounds()
        fitting = [c for c in (residue - P, residue) if lo <= c <= hi]
        if not fitting:
            return False
        (carry,) = fitting
    raise AssertionError("no last limb")


@pytest.mark.parametrize(
    ("name", "count"), [("cnn", 3 + 2 + 3 + 5 + 5), ("cnn, q32, sam", 3 + 2 + 3), ("leaky", 10 + 8 + 5 + 2 * 9)]
)
def test_adding_multiples_of_p_to_an_accumulator_is_caught(name, count):
    """Quotient and remainder of acc + j p satisfy the one equation modulo p that Q31.32 would suggest, and have
    digits in range; but no carries make them satisfy the limb equations."""
    certificate, w = honest(name)
    w = copy_of(w)
    found = contractions(certificate)
    assert len(found) == count
    rng, tried = np.random.default_rng(1), 0
    for what, (run, output) in found.items():
        index = tuple(int(rng.integers(a.size)) for a in run.con.out)
        remainder = Committed(Value.of(run.remainder))
        z, r = (int(read_value(out.value, w, index[0])[index[1:]]) for out in (output, remainder))
        assert carries_modulo_p(w, run, index), what
        tensors = {part.tensor for out in (output, remainder) for part in out.value.parts}
        digits = {t: w.array(t)[(slice(None), *index)].copy() for t in tensors}
        for j in (*range(-40, 0), *range(1, 41)):
            forged = (z << 32) + r + j * P
            single = Witness(w.layout)
            for out, value in ((output, forged >> 32), (remainder, forged % (1 << 32))):
                put_output(out, single, np.full(out.value.shape, value), index[0])
            for t in tensors:
                Digits(w, t)[(slice(None), *index)] = single.array(t)[(slice(None), *index)]
            assert ((forged >> 32 << 32) + forged % (1 << 32) - (z << 32) - r) % P == 0
            assert not carries_modulo_p(w, run, index), (what, j)
            tried += 1
        for t, old in digits.items():
            Digits(w, t)[(slice(None), *index)] = old
    assert tried == 80 * len(found)
