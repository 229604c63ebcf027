"""Tuples that are no row of their table, and cheating in the argument that excludes them."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest

from circuits.argument import tuples as reductions
from circuits.argument.lookups import digit_trees
from circuits.argument.tuples import base, tuple_trees
from circuits.language.constraints import BoundError, Circuit
from circuits.language.functions import FunctionTable, Lookup
from circuits.language.layout import Layout
from circuits.language.sources import Axis
from circuits.language.tensors import Digit, unsigned
from circuits.language.wide import Domain
from prover import argument, trees
from prover.execution.witness import Witness
from prover.oracle import ProverOracle
from tests.builders import violations
from tests.functions import (
    DOUBLES,
    LINES,
    SOME,
    SQUARES,
    function_layout,
    function_witness,
    prove_functions,
    verify_functions,
)
from zkcert.core import field as ff
from zkcert.core.field import F, P
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def verdict(*patches, witness, strict=False):
    """The check a proof made under patches falls to: the prover's own if strict, else the verifier's; "" if none."""
    try:
        for p in patches:
            p.start()
        proof = prove_functions(witness, strict=strict)
        for p in patches:
            p.stop()
        verify_functions(proof, witness.layout)
    except ProofRejected as error:
        return error.check
    finally:
        mock.patch.stopall()
    return ""


def changed(**values) -> Witness:
    """A witness with other values: functions of the honest arrays of all tensors."""
    w = function_witness()
    named = {t.name: t for t in w.circuit.tensors}
    honest = {name: w.value(t) for name, t in named.items()}
    for name, value in values.items():
        w.put(named[name], value(honest))
    return w


AT = (0, 1, 2)


def with_entry(array, at, value):
    out = array.copy()
    out[at] = value
    return out


def line(slope, intercept) -> Witness:
    """Another slope and intercept at one index, and the y that follows from them."""

    def y(v):
        own = slope(v)[AT] * v["offset"][AT] + intercept(v)[AT]
        return with_entry(v["y"], AT, own)

    return changed(slope=slope, intercept=intercept, y=y)


LIES = {
    "no row": lambda: line(lambda v: with_entry(v["slope"], AT, v["slope"][AT] + 1), lambda v: v["intercept"]),
    "components swapped": lambda: line(
        lambda v: with_entry(v["slope"], AT, v["intercept"][AT]),
        lambda v: with_entry(v["intercept"], AT, v["slope"][AT]),
    ),
    "two rows mixed": lambda: line(
        lambda v: v["slope"],
        lambda v: with_entry(v["intercept"], AT, LINES.rows[(v["segment"][AT] + 1) % len(LINES.rows), 2]),
    ),
    "another row": lambda: line(
        lambda v: with_entry(v["slope"], AT, LINES.rows[(v["segment"][AT] + 1) % len(LINES.rows), 1]),
        lambda v: with_entry(v["intercept"], AT, LINES.rows[(v["segment"][AT] + 1) % len(LINES.rows), 2]),
    ),
    "a row of another table": lambda: another_table(),
    "a digit that is no row": lambda: changed(one=lambda v: v["one"] + 1),
}


def another_table() -> Witness:
    """The double of 3 is 9, as its square is."""
    only = {name: lambda v, x=x: with_entry(v["sign"] * 0, (0, 1), x) for name, x in LIKE.items()}
    return changed(**only, one=lambda v: v["one"] * 0 - 3)


LIKE = {"sign": 3, "square": 9, "double": 9}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("lie", LIES)
def test_a_tuple_that_is_no_row_of_its_table_is_caught(lie, strict):
    w = LIES[lie]()
    assert len(violations(w.circuit, w)) == 1
    assert verdict(witness=w, strict=strict) == ("range-check/roots" if strict else "hidden-equations")


def counted(change):
    """Multiplicities that are changed before they are committed: change(those of the function tables by table)."""
    original = argument.count_multiplicities

    def count(layout, x):
        original(layout, x)
        change(dict(zip(layout.functions, rows_of(layout, x), strict=True)))

    return mock.patch.object(argument, "count_multiplicities", count)


def rows_of(layout, x):
    """The multiplicities of each function table, as views."""
    ends = np.cumsum([layout.multiplicity_start + sum(layout.tables), *(t.shape[0] for t in layout.functions)])
    return [x[start:stop] for start, stop in pairwise(ends)]


def test_an_honest_proof_passes_the_same_harness():
    assert verdict(counted(lambda counts: None), witness=changed()) == ""


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("table", [LINES, SQUARES, SOME])
def test_multiplicities_of_rows_that_do_not_count_are_caught(table, strict):
    def change(counts):
        counts[table][-1] += 1

    assert verdict(counted(change), witness=changed(), strict=strict) == (
        "range-check/roots" if strict else "hidden-equations"
    )


MOVED = {
    "a tuple that is a row of both": ((SQUARES, (2, 4)), (DOUBLES, (2, 4))),
    "zeros": ((DOUBLES, (0, 0)), (SQUARES, (0, 0))),
    "a number that is a digit as well": ((SOME, (0,)), (None, 0)),
    "a digit that is a row as well": ((None, 12), (SOME, (12,))),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("move", MOVED)
def test_multiplicities_do_not_move_from_table_to_table(move, strict):
    """Of equal numbers, so that nothing but the class tells the two; None: the table of the largest digits."""
    original = argument.count_multiplicities

    def slot(layout, table, entry):
        if table is None:
            return layout.multiplicity_start + entry
        before = layout.functions[: layout.functions.index(table)]
        return layout.multiplicity_start + sum(layout.tables) + sum(t.shape[0] for t in before) + row_of(table, entry)

    def count(layout, x):
        original(layout, x)
        for place, by in zip(MOVED[move], (-1, 1), strict=True):
            x[slot(layout, *place)] += by

    patch = mock.patch.object(argument, "count_multiplicities", count)
    assert verdict(patch, witness=changed(), strict=strict) == ("range-check/roots" if strict else "hidden-equations")


def row_of(table: FunctionTable, entry: tuple[int, ...]) -> int:
    return table.rows.tolist().index(list(entry))


@pytest.mark.parametrize("classes", ["own", "one"])
def test_classes_keep_the_tables_apart(classes):
    """Counted as the row of the other table that it is, the tuple passes where both tables have one class only."""

    def change(counts):
        counts[SQUARES][SQUARES.rows[:, 0].tolist().index(3)] += 1

    def one(layout, table, alpha):
        return base(layout, layout.functions[0], alpha)

    patches = [counted(change)]
    patches += [mock.patch.object(module, "base", one) for module in (reductions, trees) if classes == "one"]
    if classes == "own":
        assert verdict(*patches, witness=another_table()) == "hidden-equations"
        return
    with patches[0], patches[1], patches[2]:
        w = another_table()
        verify_functions(prove_functions(w), w.layout)


@pytest.mark.parametrize("known", [True, False])
def test_a_prover_who_knows_gamma_beforehand_is_why_it_is_drawn_last(known):
    """slope + 5 and intercept - 1 are encoded like the row where gamma is 5."""
    w = line(
        lambda v: with_entry(v["slope"], AT, v["slope"][AT] + 5),
        lambda v: with_entry(v["intercept"], AT, v["intercept"][AT] - 1),
    )
    (at,) = w.value(next(t for t in w.circuit.tensors if t.name == "segment"))[AT].reshape(1)

    def change(counts):
        counts[LINES][at] += 1

    challenge = Transcript.challenge

    def five(self, label):
        return F(5) if label == "gamma" else challenge(self, label)

    with counted(change), mock.patch.object(Transcript, "challenge", five if known else challenge):
        proof = prove_functions(w)
        if known:
            verify_functions(proof, w.layout)
        else:
            with pytest.raises(ProofRejected, match="hidden-equations"):
                verify_functions(proof, w.layout)


@pytest.mark.parametrize("strict", [True, False])
def test_multiplicities_chosen_after_the_challenges_are_not_the_committed_ones(strict):
    """One row's numerator makes up for the tuple that is none: the sum vanishes, but X holds another number."""
    w = LIES["no row"]()
    slot = sum(w.layout.tables)

    def table_tree(self, alpha, gamma):
        parts = [trees.digit_tree(self.layout, self.x, alpha, *block) for block in digit_trees(self.layout)]
        parts += [self.tuple_tree(alpha, gamma, tree) for tree in tuple_trees(self.layout)]
        parts.append(trees.TableTree(self.layout, self.x, alpha, gamma))
        missing = sum((p / q for p, q in (tree.root() for tree in parts)), F.ZERO)

        class Late(trees.TableTree):
            def leaves(self, start, stop):
                out = super().leaves(start, stop)
                if start <= slot < stop:
                    p, q = (ff.f_item(out[i : i + 2], slot - start) for i in (0, 2))
                    p = p - missing * q
                    out[:2, slot - start] = p.re, p.im
                return out

        return Late(self.layout, self.x, alpha, gamma)

    check = verdict(mock.patch.object(ProverOracle, "table_tree", table_tree), witness=w, strict=strict)
    assert check == ("batch" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
def test_a_tree_over_other_tuples_than_the_committed_ones_is_caught(strict):
    """The lookup succeeds, on tuples that are not those of X."""
    w, honest, original = LIES["no row"](), function_witness(), trees.Part.tuples
    patch = mock.patch.object(trees.Part, "tuples", lambda part, witness: original(part, honest))
    check = verdict(patch, witness=w, strict=strict)
    assert check == ("constraint/range-check/tuples" if strict else "hidden-equations")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("part", [0, 1])
def test_a_wrong_root_of_a_tree_of_tuples_is_caught_by_that_tree(part, strict):
    original = ProverOracle.tuple_tree

    def tuple_tree(self, *args):
        tree = original(self, *args)
        p, q = tree.root()
        tree.root = lambda: (p + (part == 0), q + (part == 1))
        return tree

    check = verdict(mock.patch.object(ProverOracle, "tuple_tree", tuple_tree), witness=changed(), strict=strict)
    # the sum of the roots is wrong as well, but is looked at later
    assert check == ("range-check/tuples" if strict else "hidden-equations")


def test_what_stands_beyond_a_domain_is_the_first_row():
    """A tuple that is no row cannot hide there: the verifier knows what stands at these leaves."""
    layout = function_layout(1 << 12)
    w, original = function_witness(layout=layout), trees.Part.tuples

    def another(part, witness):
        x = original(part, witness)
        if part.lookup.table == LINES:  # 3 x 5 x 6 in 4 x 8 x 8
            x[1, -1] += 1
        return x

    assert verdict(mock.patch.object(trees.Part, "tuples", another), witness=w) == "hidden-equations"


@pytest.mark.parametrize("bounded", [True, False])
def test_a_component_that_is_an_entry_modulo_p_only_is_why_it_is_bounded(bounded):
    """Eight digits of eight bits hold p + 1, which passes for 1 where no bound is asked for."""
    c, t = Circuit(), Axis("t", 3)
    digits = tuple(Digit(unsigned(8), 8 * i) for i in range(8))
    x = Domain(c, (t,)).wire("x", digits)
    table = FunctionTable("one or two", (2, 1), lambda: np.array([[1], [2]]))
    if bounded:
        with pytest.raises(BoundError, match="differ"):
            c.lookup("l", (t,), table, [x.whole()])
        return
    c.lookups.append(Lookup("l", (t,), table, (x.whole(),)))
    layout = Layout(c, smallest_cut=1)
    w = Witness(layout)
    for i in range(8):
        w.write(x.tensor, i, np.array([[1, 2, P + 1]], object) >> 8 * i & 255)
    original = trees.Part.tuples
    with mock.patch.object(trees.Part, "tuples", lambda part, witness: original(part, witness) % P):
        verify_functions(prove_functions(w), layout)
