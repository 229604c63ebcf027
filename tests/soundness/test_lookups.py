"""Lookups in function tables: what they say, the trees over tuples, and that digits follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from circuits import limits
from circuits.argument import tuples as reductions
from circuits.argument.protocol import message_counts
from circuits.argument.tuples import encoded, eq_index, leaf_count, pieces, tuple_trees
from circuits.language.constraints import BoundError, Circuit
from circuits.language.forms import View
from circuits.language.functions import LARGEST, MAX_COMPONENTS, FunctionTable
from circuits.language.layout import Block, Layout
from circuits.language.sources import Axis
from circuits.language.tensors import U22, radix, unsigned
from circuits.language.wide import Domain
from circuits.listing import lines
from prover import trees
from prover.trees import parts_of
from tests.builders import Digits, violations
from tests.functions import (
    LINES,
    SQUARES,
    STEPS,
    function_circuit,
    function_layout,
    function_proof,
    function_witness,
    prove_functions,
    verify_functions,
)
from tests.soundness.determined import Knowledge
from tests.soundness.oracles import eq
from tests.soundness.unrolled import Row, Unrolled
from tests.toys import random_fs
from verifier.soundness import soundness
from zkcert.core.field import P, f_list
from zkcert.errors import UnusableInput


def table(rows: Sequence[Sequence[int]], rule: str = "a test") -> FunctionTable:
    return FunctionTable(rule, np.array(rows).shape, lambda: np.array(rows))


# ------------------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([[0, 1], [0, 2]], "do not rise"),
        ([[1, 1], [0, 2]], "do not rise"),
        ([[0, 1], [1, LARGEST]], "2\\^60"),
        ([[0, 1], [1, -LARGEST]], "2\\^60"),
    ],
)
def test_a_function_table_has_rising_arguments_and_small_numbers(rows, why):
    with pytest.raises(ValueError, match=why):
        table(rows).rows  # noqa: B018


def test_a_function_table_has_the_shape_it_says():
    with pytest.raises(ValueError, match="another shape"):
        FunctionTable("short", (3, 2), lambda: np.zeros((2, 2))).rows  # noqa: B018
    for shape in ((0, 1), (1, 0), (1, MAX_COMPONENTS + 1)):
        with pytest.raises(ValueError, match="components"):
            FunctionTable("empty", shape, lambda: np.zeros((1, 1)))


def test_a_table_is_its_rule_and_its_digest_that_of_its_rows():
    one, other = table([[0, 5]]), table([[0, 6]])
    assert one == other and hash(one) == hash(other) and one.digest != other.digest
    assert one != table([[0, 5], [1, 5]]) and one != table([[0, 5]], "another")


def number(bits: int = 22) -> tuple[Circuit, Axis, View]:
    c, t = Circuit(), Axis("t", 3)
    return c, t, Domain(c, (t,)).wire("x", radix(U22, U22, unsigned(bits)))


def test_a_component_that_can_be_an_entry_and_p_is_refused():
    c, t, x = number(17)  # below 2^61, and up to p
    low = table([[0]], "zero")
    with pytest.raises(BoundError, match="differ from an entry"):
        c.lookup("l", (t,), low, [x.whole()])
    assert x.whole().bounds[1] == P
    c.lookup("l", (t,), table([[1]], "one"), [x.whole()])  # p - 1 at most
    assert [lookup.reach for lookup in c.lookups] == [P - 1]


@pytest.mark.parametrize("case", ["count", "axis", "size"])
def test_components_fit_their_lookup(case):
    c, t, x = number()
    with pytest.raises(ValueError, match={"count": "components", "axis": "axes", "size": "indices"}[case]):
        if case == "count":
            c.lookup("l", (t,), SQUARES, [x.digit(0)])
        elif case == "axis":
            c.lookup("l", (Axis("s", 3),), SQUARES, [x.digit(0), x.digit(1)])
        else:
            c.lookup("l", (Axis("t", 4),), SQUARES, [x.digit(0), x.digit(1)])
    assert not c.lookups


def test_what_is_tried_and_refused_leaves_no_lookup():
    c, t, x = number()

    def declare():
        c.lookup("l", (t,), SQUARES, [x.digit(0), x.digit(1)])
        c.lookup("l", (t,), SQUARES, [x.whole(), x.digit(1)])

    assert c.tried(declare) is None
    assert not c.lookups and c.size.terms == 0


def test_lookups_are_bounded(monkeypatch):
    c, t, x = number()
    monkeypatch.setattr("circuits.language.constraints.MAX_NUMBERS", 40)
    for _ in range(2):  # one table, however often it is used
        c.lookup("l", (t,), SQUARES, [x.digit(0), x.digit(1)])
    with pytest.raises(UnusableInput, match="41 numbers"):
        c.lookup("l", (t,), table([[0], [1], [2]]), [x.digit(0)])
    c.size.most = c.size.terms
    with pytest.raises(UnusableInput, match="terms"):
        c.lookup("l", (t,), SQUARES, [x.digit(0), x.digit(1)])


# ------------------------------------------------------------------------------------------------ boxes


def test_a_large_block_is_cut_into_halves():
    block = Block(((3, 0), (4, 2), (0, 1)))
    assert list(pieces(block, 3)) == [block]
    assert [b.axes for b in pieces(block, 1)] == [((3, 0), (4 + i, 0), (0, 1)) for i in range(4)]
    assert [b.axes for b in pieces(block, 0)] == [((3, 0), (4 + i, 0), (j, 0)) for i in range(4) for j in range(2)]


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 24])
@pytest.mark.parametrize("cut", [1, 1 << 12])
def test_boxes_hold_every_tuple_once_and_otherwise_first_rows(bits, cut, monkeypatch):
    monkeypatch.setattr(reductions, "TUPLE_TREE_BITS", bits)
    w = function_witness(layout=function_layout(cut))
    found: dict[object, Counter] = {}
    for tree in tuple_trees(w.layout):
        at = 0
        for box in tree:
            assert (box.start, box.start % (1 << box.block.bits)) == (at, 0)
            parts = parts_of([box], 2)
            assert [p.start for p in parts] == list(range(at, at + (1 << box.block.bits), 1 << parts[0].block.bits))
            at += 1 << box.block.bits
            own = np.concatenate([part.tuples(w) for part in parts], axis=1).T.tolist()
            found.setdefault(box.lookup, Counter()).update(map(tuple, own))
        assert at == leaf_count(tree) <= 1 << bits
    for lookup in w.circuit.lookups:
        columns = [np.broadcast_to(w.form(f, lookup.out), lookup.sizes).ravel().tolist() for f in lookup.components]
        own = Counter(zip(*columns, strict=True))
        spare = found[lookup] - own
        assert own - found[lookup] == Counter() and set(spare) <= {tuple(lookup.table.rows[0].tolist())}
        assert bits < 24 or cut > 1 or not spare


# ------------------------------------------------------------------------------------------------ the argument


@pytest.mark.parametrize("bits", [0, 2, 4, 24])
@pytest.mark.parametrize("cut", [1, 1 << 12])
def test_tuples_are_proved_in_trees_of_any_size(bits, cut, monkeypatch):
    """In strict mode every claim is compared with the witness."""
    monkeypatch.setattr(reductions, "TUPLE_TREE_BITS", bits)
    monkeypatch.setattr(trees, "TUPLE_BITS", 3)
    layout = function_layout(cut)
    verify_functions(prove_functions(function_witness(1, layout), strict=True), layout)


def test_a_proof_of_another_circuit_is_refused():
    """The lookups alone differ."""
    with pytest.raises(Exception, match=r"messages|hidden-equations"):
        verify_functions(function_proof(), Layout(without(function_circuit(), 1), smallest_cut=1))


def without(circuit: Circuit, which: int) -> Circuit:
    lookups = [lookup for i, lookup in enumerate(circuit.lookups) if i != which]
    return Circuit(circuit.tensors, circuit.constraints, size=circuit.size, lookups=lookups)


def test_rows_are_encoded_as_polynomials():
    (gamma,) = random_fs(np.random.default_rng(0), 1)
    want = [int(s) + gamma * int(a) + gamma * gamma * int(b) for s, a, b in LINES.rows]
    assert f_list(encoded(LINES.rows, gamma)) == want


def test_eq_at_an_index_is_the_product_formula():
    point = random_fs(np.random.default_rng(0), 4)
    assert [eq_index(point, i) for i in range(16)] == [eq(point, i) for i in range(16)]


def test_lookups_are_counted():
    layout, plain = function_layout(), Layout(Circuit(function_circuit().tensors), smallest_cut=1)
    assert layout.digit_count == plain.digit_count
    rows = [shape[0] for shape in (t.shape for t in layout.functions)]
    assert (len(layout.functions), sum(rows)) == (4, layout.table_entries - plain.table_entries)
    ((own, count),) = [(tree, leaf_count(tree)) for tree in tuple_trees(layout)]
    degree = layout.digit_count + sum(layout.tables)
    degree += sum(n * max(1, k - 1) for n, k in (t.shape for t in layout.functions))
    degree += sum(max(1, len(box.lookup.components) - 1) << box.block.bits for box in own)
    (alpha,) = [t for t in soundness(layout).terms if t.name == "LogUp challenge alpha"]
    assert alpha.error == pytest.approx(np.log2(degree) - 2 * np.log2(P))
    depth = (count - 1).bit_length()
    less = Layout(Circuit(layout.circuit.tensors, layout.circuit.constraints), smallest_cut=1)
    more, fewer = (message_counts(x, 20) for x in (layout, less))
    table_depths = [(x.table_entries - 1).bit_length() for x in (layout, less)]
    grown = [d * (d - 1) for d in table_depths]
    assert more[0] - fewer[0] == depth * (depth - 1) + grown[0] - grown[1]
    assert more[1] - fewer[1] == 2 * depth - 1 + 3 + 2 * (table_depths[0] - table_depths[1])
    wide = sum(len(x) for x in ([v for f in box.lookup.components for v, _, _ in f.terms] for box in own))
    assert limits.column_weights(layout) - limits.column_weights(less) >= wide


# ------------------------------------------------------------------------------------------------ the listing


def test_lookups_are_listed():
    text = list(lines(function_layout()))
    words = [line.split(" ") for line in text]
    functions = [w for w in words if w[0] == "function"]
    assert [w[1:] for w in functions] == [
        [str(i), *map(str, t.shape), t.digest, *t.rule.split(" ")] for i, t in enumerate(function_layout().functions)
    ]
    found = [(w[1], w[2], w[3]) for w in words if w[0] == "lookup"]
    assert found[0] == ("line/coefficients", "t=3,r=5,k=6", "0") and found[-1] == ("sum", "-", "3")
    assert len([w for w in words if w[0] == "component"]) == sum(len(x.components) for x in function_circuit().lookups)


def listed(rows=((0, 1), (1, 2)), rule="r", digits=(0, 1), names=("a", "b"), repeated=1):
    """A circuit of two lookups; `repeated` indices of an axis that nothing reads."""
    c, t = Circuit(), Axis("t", 3)
    x = Domain(c, (t,)).wire("x", radix(U22, U22))
    for name in names:
        c.lookup(name, (t, Axis("s", repeated)), table(rows, rule), [x.digit(d) for d in digits])
    return lines(Layout(c))


@pytest.mark.parametrize(
    "change",
    [{"rows": ((0, 1), (1, 3))}, {"rule": "s"}, {"digits": (1, 0)}, {"names": ("b", "a")}, {"repeated": 2}],
    ids=["row", "rule", "component", "order", "axis"],
)
def test_the_listing_says_all_of_a_lookup(change):
    assert listed() == listed() != listed(**change)


# ------------------------------------------------------------------------------------------------ what follows


def known() -> set[str]:
    return {"x", "sign", "one"}


def test_what_a_function_gives_follows_from_its_argument():
    circuit, w = function_circuit(), function_witness()
    assert violations(circuit, w) == []
    u = Unrolled(circuit)
    values = u.values(w)
    unknown = [v for v, (t, _, _) in enumerate(u.names) if t.name not in known()]
    k = Knowledge(u, values, unknown).solve()
    assert k.free() == []
    assert all(lo <= x <= hi for lo, x, hi in zip(k.lo, values, k.hi, strict=True))
    for con in u.lookups:
        rest = [e for e in u.equations if e.constraint is not con]
        free = {u.names[v][0].name for v in Knowledge(u, values, unknown, rest).solve().free()}
        assert free == {
            "line/coefficients": {"slope", "intercept", "y"}, "square": {"square"}, "double": {"double"}, "sum": set()
        }[con.name]  # fmt: skip


def test_an_argument_follows_from_a_value_that_it_alone_has():
    """Not from a square, which two numbers have."""
    u, w = Unrolled(function_circuit()), function_witness()
    values = u.values(w)
    for name, lookup in (("square", "square"), ("double", "double")):
        unknown = [v for v, (t, _, _) in enumerate(u.names) if t.name == "sign"]
        equations = [e for e in u.equations if isinstance(e, Row) and e.constraint.name == lookup]
        free = Knowledge(u, values, unknown, equations).solve().free()
        signs = [values[v] for v in unknown]
        assert len(signs) == STEPS and len(free) == (sum(s != 0 for s in signs) if name == "square" else 0)


def test_a_witness_that_breaks_a_lookup_breaks_that_lookup_only():
    w = function_witness()
    t = next(t for t in w.circuit.tensors if t.name == "double")
    Digits(w, t)[0, 0, 1] += 1
    assert violations(w.circuit, w) == ["lookup double"]
