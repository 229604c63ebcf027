"""Values out of range, and cheating in the lookup argument that excludes them."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from circuits.argument import lookups
from prover import argument, trees
from prover.channel import ProverChannel
from prover.oracle import ProverOracle
from prover.trees import Leaves
from tests.builders import Digits, violations
from tests.soundness.malicious.forging import altered, full_name, toy_verdict
from tests.toys import committed_vector, prove_toy, toy_layout, toy_witness, verify_toy
from zkcert.core.field import F, P
from zkcert.errors import ProofRejected

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
        return sum((t.root()[0] / t.root()[1] for t in (*trees, table_tree(self, alpha, F.ZERO))), F.ZERO)

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
            rest.append(sum((t.root()[0] / t.root()[1] for t in (*trees, table_tree(self, alpha, F.ZERO))), F.ZERO))
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
    layout, count = toy_layout(), argument.count_multiplicities
    segment = next(s for s in layout.segments if s.start <= at < s.stop)

    def unused(x):
        return int(np.flatnonzero(x[layout.multiplicity_start :] == 0)[0])

    count(layout, w.x)
    slot = unused(w.x)

    def counted(layout, x):
        count(layout, x)
        x[layout.multiplicity_start + slot] = 1

    def table_tree(self, alpha, gamma):
        other = alpha - F(int(self.x[at]) + segment.shift, segment.cls)

        class Changed(trees.TableTree):
            def leaves(self, start, stop):
                out = super().leaves(start, stop)
                if start <= slot < stop:
                    out[2:, slot - start] = other.re, other.im
                return out

        return Changed(self.layout, self.x, alpha, gamma)

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
        mock.patch.object(ProverOracle, "table_tree", lambda self, *a: trees.TableTree(self.layout, honest, *a)),
    )
    check = toy_verdict(*patches, strict=strict, witness=committed)
    assert check == ("batch" if strict else "hidden-equations")
