"""Congruences hold modulo p only: multiples of p are what a liar adds, and random combinations are what he meets.

Most lies are told in `tests.toys.drawn_circuit`, whose outputs are so wide that every multiple of p that matters fits.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise
from math import prod
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.language.combination import Combination, Division, combine, value_terms
from circuits.language.constraints import BoundError, Circuit, Congruence, expr
from circuits.language.drawn import PRIMES, WEIGHT_BITS, WeighedAlike, WeighedGather
from circuits.language.forms import View
from circuits.language.layout import Layout
from circuits.language.sources import Axis
from circuits.language.tensors import B22, Digit, Range, Tensor, radix
from circuits.language.wide import limb_forms
from circuits.net import BALANCED_REMAINDER, VALUE, WEIGHT, Committed, Contraction, Net, Output, Sums
from circuits.probe import BALANCED_STEP, update_remainder
from circuits.value import Value
from prover import argument, commit
from prover.combinations import fill_closing, fill_reduction
from prover.execution.values import put_output, read_value
from prover.execution.witness import Witness
from tests.builders import Digits, fill_late, tiny_cnn, tiny_mlp, values_of, violations, wide
from tests.soundness.fields import CHAIN, check_of
from tests.soundness.honest import copy_of
from tests.soundness.malicious.forging import NoCommitment, reads, strict_name, toy_verdict, transcript
from tests.toys import (
    drawn_circuit,
    drawn_layout,
    drawn_witness,
    prove_drawn,
    toy_proof,
    verify_drawn,
    verify_toy,
)
from verifier.soundness import combinations as combination_terms
from zkcert.core.field import P
from zkcert.core.opening import part_tree
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected, RangeOverflow

EVERY = {f"q{i}" for i in range(len(PRIMES))}


def on(tensor: Tensor, *axes: Axis) -> View:
    """A tensor read by its axes."""
    return View(tensor, axes)


def outputs() -> Tensor:
    """Those of the toy."""
    return next(t for t in drawn_circuit().tensors if t.name == "y")


def with_errors(w: Witness, errors: Mapping[tuple[int, int, int], int]) -> Witness:
    """The toy's witness with errors in its outputs, and in all that is late what follows from them."""
    w, y = copy_of(w), outputs()
    values = wide(w, on(y, *(Axis(a, n) for a, n in zip("tlr", y.sizes, strict=True))))
    for at, error in errors.items():
        values[at] += error
    w.put(y, values)
    if all(draw.drawn is not None for draw in drawn_circuit().draws):
        refilled(w, *drawn_circuit().combinations)
    return w


@pytest.fixture(scope="module")
def toy() -> Witness:
    """A valid witness, weights drawn; not to be changed."""
    w = drawn_witness()
    fill_late(w)
    return w


def refilled(w: Witness, made: Combination) -> None:
    """What the lie implies for a combination: residues, quotients and carries of what the digits are now."""
    for reduction in made.reductions:
        fill_reduction(w, reduction)
    fill_closing(w, made.closing)


def false_members(w: Witness, made: Combination, con: Congruence) -> set[tuple[str, str]]:
    """Constraint and label, without limbs, of what the witness breaks of a congruence and its combination."""
    cons = [con, *(reduction.con for reduction in made.reductions), made.closing.con]
    return {(c.name, label.partition("[")[0]) for c in cons for label, e in c.members if np.any(values_of(w, c, e))}


# ------------------------------------------------------------------------------------------------ the primes


def test_an_integer_that_p_divides_and_two_primes_is_zero():
    for q in PRIMES:
        assert q < 1 << WEIGHT_BITS and all(q % d for d in range(2, 1 << 15)) and P % q
    assert Congruence.limit == P << 58
    assert min(a * b for a, b in combinations(PRIMES, 2)) > 1 << 59
    assert tuple(sorted(PRIMES, reverse=True)) == PRIMES and len(set(PRIMES)) == 5


@pytest.mark.parametrize("u", [1, -1, 3 << 40, *PRIMES, 2 * PRIMES[1], -PRIMES[4]])
def test_an_output_moved_by_a_multiple_of_p_is_caught_by_each_prime_that_does_not_divide_it(toy, u):
    """The congruence and all sums along one axis hold: without the combinations it would pass."""
    w, (made,), con = with_errors(toy, {(1, 2, 3): u * P}), drawn_circuit().combinations, drawn_circuit().constraints[0]
    seen = {f"q{i}" for i, q in enumerate(PRIMES) if u % q}
    assert len(seen) >= 4
    assert false_members(w, made, con) == {("product/combined", label) for label in seen}
    assert all(name.startswith("product/combined/q") for name in violations(drawn_circuit(), w))
    assert strict_name(drawn_layout(), w) == "constraint/product/combined"


@pytest.mark.parametrize("axis", range(3))
def test_errors_that_add_up_to_zero_along_an_axis_are_caught(toy, axis):
    """Weights differ from index to index, and what is shared is shown for each of its indices."""
    there = tuple(int(i == axis) for i in range(3))
    w = with_errors(toy, {(0, 0, 0): P, there: -P})
    (made,), con = drawn_circuit().combinations, drawn_circuit().constraints[0]
    assert false_members(w, made, con) == {("product/combined", label) for label in EVERY}


@pytest.mark.parametrize("error", [1, PRIMES[0], prod(PRIMES[:3])])
def test_an_output_that_is_wrong_modulo_p_is_caught_by_the_congruence(toy, error):
    """Whatever the combinations see of it."""
    assert strict_name(drawn_layout(), with_errors(toy, {(0, 0, 0): error})) == "constraint/product"


# ------------------------------------------------------------------------------------------------ in a network


@dataclass
class Told:
    """A congruence of a network, where its output goes, and how both move for p times `unit`."""

    made: Combination
    con: Congruence
    run: Contraction
    output: Output
    index: int  # the unrolled index of the output for the unrolled index 0 of the congruence
    step: int
    unit: int


def told(certificate: Certificate) -> dict[str, Told]:
    """All congruences: out 2^32, or 2^40, or 2^32 D, plus the remainder is what the product is."""
    out = {}
    by_name = {made.closing.con.name.removesuffix("/combined"): made for made in certificate.circuit.combinations}

    def note(run, output, index, step, unit):
        if isinstance(run.con, Congruence):
            out[run.con.name] = Told(by_name[run.con.name], run.con, run, output, index, step, unit)

    for layer in certificate.layers:
        if hasattr(layer, "run_input") and layer.dx is not None:
            note(layer.run_input, Committed(layer.dx), 0, -1 << 29, 1)
        if hasattr(layer, "out"):
            note(layer.run, layer.out, 0, -1 << 29, 1)
    for p in certificate.parameters:
        weight = Committed(Value.of(p.weight))
        if p.run_gradient is not None:
            note(p.run_gradient, Committed(Value.of(p.grad)), 0, -1 << 29, 1)
        note(p.run_perturbation, weight, 1, -1 << 21, 1)
        note(p.run_update, weight, 2, 1 << 29, p.divisor)
    assert set(out) == set(by_name)
    return out


def moved(w: Witness, lie: Told) -> bool:
    """Move an output and its remainder so that the congruence stays: whether some of its entries has room for it."""
    outs, rests = lie.output.value, Value.of(lie.run.remainder)
    z, rest = read_value(outs, w, lie.index), read_value(rests, w, 0)
    for sign in (1, -1):
        for at in np.ndindex(*rest.shape):
            new, left = z.copy(), rest.copy()
            new[at], left[at] = z[at] + sign * lie.step, rest[at] + sign * lie.unit
            try:
                put_output(lie.output, w, new, lie.index)
                w.put(lie.run.remainder, left, 0)
                return True
            except RangeOverflow:
                put_output(lie.output, w, z, lie.index)
                w.put(lie.run.remainder, rest, 0)
    return False


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (lambda: tiny_cnn(residue_cost=0), 2 + 3 + 3 + 3 + 5),
        (lambda: tiny_mlp(residue_cost=0, variant="sam", divisor=37), 1 + 2 + 2 + 2 + 4),
    ],
)
def test_outputs_of_every_congruence_of_a_network_cannot_move_by_p(case, count):
    """Forward passes, input gradients, gradients, perturbations, updates: digits in range, the congruence holds, and
    each of the five combinations alone would tell."""
    certificate, honest, _ = case().run()
    found = told(certificate)
    assert len(found) == count
    kinds = {s for views in (t.views for t in certificate.circuit.tensors) for v in views for s in map(type, v)}
    assert len(found) != 16 or {WeighedAlike, WeighedGather} <= kinds
    w = copy_of(honest)
    for name, lie in found.items():
        assert false_members(w, lie.made, lie.con) == set()
        assert moved(w, lie), name
        refilled(w, lie.made)
        assert false_members(w, lie.made, lie.con) == {(f"{name}/combined", label) for label in EVERY}, name
        w.x[:] = honest.x


# ------------------------------------------------------------------------------------------------ late digits


def test_every_late_digit_is_held_by_some_identity(toy):
    """Residues, quotients and carries moved by one unit at either end."""
    w, late = copy_of(toy), [t for t in drawn_circuit().tensors if t.late]
    assert len(late) == 5 * (4 * 2 + 1) + sum("carry" in t.name for t in late)
    readers = {t: [(c, e) for c in drawn_circuit().constraints for _, e in c.members if t in reads(e)] for t in late}
    for t in late:
        for d, digit in enumerate(t.digits):
            for at in ((0,) * len(t.sizes), tuple(n - 1 for n in t.sizes)):
                digits = Digits(w, t)
                old = int(digits[(d, *at)])
                digits[(d, *at)] = old + 1 if old < digit.range.hi else old - 1
                assert any(np.any(values_of(w, con, e)) for con, e in readers[t]), (t.name, d, at)
                digits[(d, *at)] = old
    assert np.array_equal(w.x, toy.x)


def test_every_division_has_all_of_its_limbs():
    """For each prime, in each sum along an axis and in what closes them: carries from limb to limb, up to the last."""
    network = Certificate(tiny_cnn(residue_cost=0).plan).circuit
    made = [*drawn_circuit().combinations, *network.combinations]
    for con in [step.con for own in made for step in [*own.reductions, own.closing]]:
        limbs: dict[str, list[str]] = {}
        for label, _ in con.members:
            name, _, span = label.removesuffix("]").partition("[")
            limbs.setdefault(name, []).append(span)
        assert set(limbs) == EVERY
        for spans in limbs.values():
            starts, stops = zip(*(span.split(":") for span in spans), strict=True)
            assert [*stops] == [*starts[1:], ""] and starts[0] == "0"


def division(made: Combination, label: str) -> Division:
    """By the name of its constraint and the number of its prime."""
    name, _, number = label.rpartition("/q")
    every = {step.con.name: step.divisions for step in [*made.reductions, made.closing]}
    return every[name][int(number)]


def test_a_residue_with_the_prime_added_to_it_says_the_same():
    """Harmless: it fits for residues below 2^30 - q only, and is the same modulo q wherever it is read."""
    w = drawn_witness()
    fill_late(w)
    for draw in drawn_circuit().draws.of["l"]:
        draw.drawn = np.zeros(draw.size, np.int64)
    (made,) = drawn_circuit().combinations
    refilled(w, made)
    assert violations(drawn_circuit(), w) == []
    (left,) = (step for step in made.reductions if step.con.name == "product/left.l")
    for division, q in zip(left.divisions, PRIMES, strict=True):
        assert not w.value(division.residue.tensor).any()
        w.put(division.residue.tensor, w.value(division.residue.tensor) + q)
        w.put(division.quotient.tensor, w.value(division.quotient.tensor) - 1)
        w.fill_carries(division.steps, left.con.out)
    fill_closing(w, made.closing)
    assert violations(drawn_circuit(), w) == []
    with pytest.raises(RangeOverflow):
        w.put(left.divisions[0].residue.tensor, np.full((2, 4), PRIMES[0] + 35))


@pytest.mark.parametrize("name", ["product/rest.l/q0", "product/right.r/q4"])
def test_a_late_digit_beyond_its_table_is_caught_by_the_range_check(name):
    """All identities hold: the low digit of a residue gives 2^22 less and the high one more."""
    fill, broken = argument.fill_combinations, []

    def tampered(w):
        fill(w)
        (made,) = drawn_circuit().combinations
        digits = Digits(w, division(made, name).residue.tensor)
        at = (0,) * (digits[...].ndim - 1)
        digits[(0, *at)] += 1 << 22
        digits[(1, *at)] -= 1
        for step in [*made.reductions, made.closing]:
            for own in step.divisions:
                w.fill_carries(own.steps, step.con.out, step.con.summed)
        broken.append(violations(drawn_circuit(), w))

    with (
        mock.patch.object(argument, "fill_combinations", tampered),
        mock.patch.object(argument, "MatrixCommitment", NoCommitment),
        mock.patch.object(argument, "PadCommitment", NoCommitment),
        pytest.raises(ProofRejected) as caught,
    ):
        argument.prove_circuit(drawn_layout(), drawn_witness(), transcript(), strict=True)
    assert [v for v in broken[0] if not v.startswith("range of")] == []
    assert f"range of {name}.residue[0]" in broken[0]
    assert caught.value.check == "range-check/roots"


# --------------------------------------------------------------------------------------------- when weights are drawn


def known_weights(self, label: str, count: int, bound: int) -> np.ndarray:
    """What a transcript would give that did not hear the roots."""
    return np.random.default_rng(zlib.crc32(label.encode())).integers(0, bound, count)


def short_relation(weights: list[int], modulus: int) -> list[int]:
    """Small integers, not all zero, with sum weights u = 0 (mod modulus): LLL, with 3/4."""
    n, inverse = len(weights), pow(weights[0], -1, modulus)
    rows = [[modulus, *[0] * (n - 1)]]
    rows += [[-w * inverse % modulus, *(int(i == j) for j in range(1, n))] for i, w in enumerate(weights) if i]
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))  # noqa: E731

    def orthogonal():
        star: list[list[Fraction]] = []
        mu = [[Fraction(0)] * n for _ in range(n)]
        for i, row in enumerate(rows):
            own = [Fraction(x) for x in row]
            for j in range(i):
                mu[i][j] = dot(row, star[j]) / dot(star[j], star[j])
                own = [x - mu[i][j] * y for x, y in zip(own, star[j], strict=True)]
            star.append(own)
        return star, mu

    k = 1
    while k < n:
        star, mu = orthogonal()
        for j in reversed(range(k)):
            factor = round(mu[k][j])
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[j], strict=True)]
            mu[k] = [x - factor * y for x, y in zip(mu[k], [*mu[j][:j], Fraction(1), *mu[j][j + 1 :]], strict=True)]
        if dot(star[k], star[k]) >= (Fraction(3, 4) - mu[k][k - 1] ** 2) * dot(star[k - 1], star[k - 1]):
            k += 1
        else:
            rows[k], rows[k - 1], k = rows[k - 1], rows[k], max(k - 1, 1)
    return rows[0]


def forged_for(draws) -> Witness:
    """A false witness whose errors, multiples of p, cancel in the combinations with these weights."""
    modulus, places = prod(PRIMES), [(left, right) for left in range(2) for right in range(3)][:5]
    weights = []
    for left, right in places:
        residues = [int(a[left]) * int(b[right]) % q for a, b, q in zip(draws["l"], draws["r"], PRIMES, strict=True)]
        parts = [(r, modulus // q, q) for r, q in zip(residues, PRIMES, strict=True)]
        weights.append(sum(r * m * pow(m, -1, q) for r, m, q in parts) % modulus)
    errors = short_relation(weights, modulus)
    assert any(errors) and max(map(abs, errors)) < 1 << 40
    return with_errors(drawn_witness(), {(0, *at): u * P for at, u in zip(places, errors, strict=True)})


def test_whoever_knows_the_weights_before_the_root_proves_what_is_false_and_whoever_does_not_does_not():
    names = {axis: [f"weights/{axis}/{q}" for q in PRIMES] for axis in "lr"}
    sizes = {axis: drawn_circuit().draws.of[axis][0].size for axis in "lr"}
    draws = {
        axis: [known_weights(None, label, sizes[axis], q) for label, q in zip(names[axis], PRIMES, strict=True)]
        for axis in "lr"
    }
    w = forged_for(draws)
    with mock.patch.object(Transcript, "integers", known_weights):
        verify_drawn(prove_drawn(w))
    assert np.any(w.array(outputs()) != drawn_witness().array(outputs()))
    assert strict_name(drawn_layout(), w) == "constraint/product/combined"


def test_late_rows_belong_under_the_late_root():
    """Neither do the trees of both parts have one name, nor can the roots change places."""
    lie = mock.patch.object(commit, "part_tree", lambda index: part_tree(0))
    assert toy_verdict(lie) == "opening/merkle/1"
    proof = toy_proof()
    roots = proof[8:104]
    swapped = proof[:8] + roots[64:] + roots[32:64] + roots[:32] + proof[104:]
    assert check_of(verify_toy, swapped) in CHAIN


# ------------------------------------------------------------------------------------------------ declarations


def contraction(*, wide_y: int = 5, both: bool = False) -> Circuit:
    """x w = y with outputs (t, l, r); `both`: the right factor reads the left axis too."""
    c, (t, left, right) = Circuit(), (Axis(a, 2) for a in "tlr")
    x, w = c.tensor("x", 2, (2,), VALUE), c.tensor("w", 2, (2, 2) if both else (2,), VALUE)
    y = c.tensor("y", 2, (2, 2), radix(*[B22] * wide_y))
    factors = limb_forms(on(x, t, left)), limb_forms(on(w, t, left, right) if both else on(w, t, right))
    con = c.congruence("product", (t, left, right))
    combine(c, con, *factors, value_terms(on(y, t, left, right), -1), [left], [right])
    return c


def test_a_congruence_without_all_five_combinations_is_refused():
    for q in PRIMES:
        circuit = contraction()
        circuit.require_combined()
        circuit.constraints[0].combined.discard(q)
        with pytest.raises(ValueError, match="product: a congruence without its combinations"):
            circuit.require_combined()
    c = Circuit()
    t = Axis("t", 2)
    c.congruence("alone", (t,)).add("sum", View(c.tensor("x", 2, (), VALUE), (Axis("t", 2),)).whole())
    with pytest.raises(ValueError, match="alone"):
        c.require_combined()
    certificate = Certificate(tiny_mlp(residue_cost=0).plan)
    certificate.circuit.constraints.append(c.constraints[0])
    with pytest.raises(ValueError, match="alone"):
        certificate.close(Fraction(1))


def test_a_congruence_that_could_reach_a_product_of_two_primes_is_refused():
    assert contraction(wide_y=5)
    with pytest.raises(
        BoundError, match=r"product/sum: \|value\| can reach 2\^132, a congruence holds less than 2\^119"
    ):
        contraction(wide_y=6)
    c = Circuit()
    con = c.congruence("sum", (Axis("t", 2),))
    with pytest.raises(BoundError):
        con.add("largest", expr(P << 58))
    con.add("below", expr((P << 58) - 1))


def test_an_axis_that_both_factors_read_is_refused():
    """Its weight would be squared, or missing: there is no such combination."""
    with pytest.raises(ValueError):
        contraction(both=True)


def test_combinations_that_could_wrap_are_not_declared_and_the_contraction_has_carries():
    """An axis of so many entries that its weighed sum does not stay below p; nothing of it is left, draws included."""

    def declare(features: int) -> tuple[Net, Contraction]:
        net, o, f = Net(2, 1, residue_cost=0), Axis("o", 2), Axis("f", features)
        x, w = net.activation("x", (1, features)), net.weight("w", (2, features))
        dy, out = net.activation("dy", (1, 2)), net.activation("z", (1, features))
        factors = (
            dy.limbs(net.over_passes, Axis("b", 1), Axis("o", 2)),
            limb_forms(View(w, (Axis("pass", 3), Axis("o", 2), Axis("f", features)))),
        )
        axes = (net.pass_axis(), net.batch_axis(), f)
        limbs = out.limbs(net.over_passes, Axis("b", 1), Axis("f", features))
        assert x.shape == (1, features) and w.digits == WEIGHT
        return net, net.scaled_down(Sums("dx", axes, (o,), factors), None, limbs, "dx")

    net, run = declare(1 << 10)
    assert isinstance(run.con, Congruence) and net.circuit.draws.sizes == {"b": 1, "f": 1 << 10}
    net, run = declare(1 << 17)
    assert not isinstance(run.con, Congruence) and run.steps
    assert net.circuit.draws.sizes == {} and not net.circuit.combinations
    assert not any(t.late for t in net.circuit.tensors)
    assert [con.name for con in net.circuit.constraints] == ["dx"]
    assert net.circuit.size.terms == sum(
        len(e.linear.terms) + sum(len(a.terms) + len(b.terms) for a, b in e.products)
        for con in net.circuit.constraints
        for _, e in con.members
    )


def test_what_is_declared_before_survives_what_is_not():
    c = contraction()
    sizes, counts = c.draws.sizes, (len(c.tensors), len(c.constraints), len(c.combinations), c.size.terms)

    def declare():
        c.draws.axis("l", 100)
        c.draws.axis("new", 3)
        c.tensor("late", 1, (), VALUE, late=True)
        c.constraint("wraps", ()).add("too large", expr(P))

    assert c.tried(declare) is None
    assert (sizes, counts) == (c.draws.sizes, (len(c.tensors), len(c.constraints), len(c.combinations), c.size.terms))
    assert c.tried(lambda: 7) == 7


def test_the_soundness_table_counts_the_axes_with_weights():
    (term,) = combination_terms(contraction())
    assert term.grind == 16 and term.error == pytest.approx(4 * (1 - np.log2(PRIMES[4])))
    assert combination_terms(Circuit()) == []


@pytest.mark.parametrize("entries", [1, 1 << 40])
@pytest.mark.parametrize("divisor", [1, 2, 3, 37, 4095, 4096, 80000, (1 << 22) - 1, 1 << 22])
def test_remainders_lie_symmetrically_and_each_is_written_in_one_way(divisor, entries):
    """So many values as the divisor has, and so one quotient."""
    net = SimpleNamespace(scaled_entries=entries, steps=2)
    digits = update_remainder(net, divisor, balanced=True)
    for found, size in ((digits, divisor << 32), (BALANCED_REMAINDER, 1 << 32), (BALANCED_STEP, 1 << 40)):
        assert Tensor("remainder", 1, (), found).bounds() == (-size // 2, size // 2 - 1)
        assert prod(d.range.size for d in found) == size
        for low, high in pairwise(found):
            assert low.range.size << low.shift == 1 << high.shift


# ------------------------------------------------------------------------------------------------ places


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (70, 90), (700, 9), (9, 700)])
def test_the_parts_of_x_do_not_overlap_and_late_columns_are_aligned(rows, columns):
    """Whatever the sizes: every column lies in its part at a multiple of its length, multiplicities behind the late
    digits and before the masking rows."""
    c, (t, left, right) = Circuit(), (Axis("t", 2), Axis("l", rows), Axis("r", columns))
    x, w, y = (
        c.tensor("x", 2, (rows,), VALUE),
        c.tensor("w", 2, (columns,), VALUE),
        c.tensor("y", 2, (rows, columns), VALUE),
    )
    factors = limb_forms(on(x, t, left)), limb_forms(on(w, t, right))
    con = c.congruence("product", (t, left, right))
    combine(c, con, *factors, value_terms(on(y, t, left, right), -1), [left], [right])
    for cut in (1, 1 << 12):
        layout = Layout(c, smallest_cut=cut)
        places = []
        for tensor, place in layout.places.items():
            for block, positions in zip(place.blocks, place.positions, strict=True):
                for digit, starts in zip(tensor.digits, positions.tolist(), strict=True):
                    for start in starts:
                        stop = start + (1 << block.bits)
                        (own,) = (seg for seg in layout.segments if seg.start <= start and stop <= seg.stop)
                        assert (layout.tables[own.cls], -own.shift) == (digit.range.size, digit.range.lo)
                        assert start % (1 << block.bits) == 0 and (start >= layout.late_start) == tensor.late
                        places.append((start, stop))
        assert all(any(a <= start and stop <= a + n for a, n in layout.runs) for start, stop in places)
        places.sort()
        assert all(stop <= start for (_, stop), (start, _) in pairwise(places))
        late = max(places)[1]
        early = max(stop for start, stop in places if start < layout.late_start)
        assert early <= layout.late_start == 2 * layout.code.width * layout.code.starts[1]
        assert late <= layout.multiplicity_start
        assert layout.multiplicity_start % (1 << layout.multiplicity_bits) == 0
        assert layout.data_end <= 2 * layout.code.width * layout.code.mask_row
        assert sum(count for _, count in layout.runs) == layout.digit_count == sum(b - a for a, b in places)


@pytest.mark.parametrize(("early", "late", "table"), [(1554, 0, 12556), (2287, 0, 44096), (759, 50458, 59843)])
def test_what_small_tables_leave_fits_into_its_part_as_well(early, late, table):
    """Rows shorter than the unit of the multiplicities: these once reached into the masking rows."""
    c = Circuit()
    c.tensor("early", early, (), (Digit(Range(table)),))
    if late:
        c.tensor("late", late, (), (Digit(Range(table)),), late=True)
    layout = Layout(c)
    assert layout.late_start % (1 << (table - 1).bit_length()) and layout.digit_count == early + late
    assert layout.late_start + late <= layout.multiplicity_start
    assert layout.multiplicity_start % (1 << layout.multiplicity_bits) == 0
    assert layout.data_end <= 2 * layout.code.width * layout.code.mask_row


def test_only_so_many_congruences_are_taken(monkeypatch):
    """The first ones; what comes later has carries. Terms of combinations are not counted."""
    whole = tiny_mlp(residue_cost=0).run()[0].circuit
    monkeypatch.setattr("circuits.net.MAX_CONGRUENCES", 3)
    certificate, w, _ = tiny_mlp(residue_cost=0).run()
    taken = [con.name for con in certificate.circuit.constraints if isinstance(con, Congruence)]
    assert taken == [con.name for con in whole.constraints if isinstance(con, Congruence)][:3]
    assert violations(certificate.circuit, w) == [] and certificate.circuit.size.terms < sum(
        len(e.linear.terms) for con in whole.constraints for _, e in con.members
    )
