"""Every source over every kind of block layout: read, folded, proved and verified as if there were no blocks.

The twin writes each source out as a matrix and knows nothing of blocks, windows or columns.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from inspect import signature
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.argument.identities import Resolver
from circuits.language.constraints import Circuit, PublicTensor, expr
from circuits.language.constraints import product as times
from circuits.language.forms import View
from circuits.language.layout import SMALLEST_CUT, Layout
from circuits.language.sources import Axis, Gather, GatherSum, Map, Scaled, SuffixGather, Sum, TailGather
from circuits.language.tensors import Digit, balanced, unsigned
from prover.argument import prove_circuit
from prover.execution.witness import Witness, indices, meet
from prover.tables import functional_value, read_block
from tests.toys import light_grinding, random_f_array, table_of, toy_transcript
from verifier.argument import verify_circuit
from verifier.files import verify_files
from verifier.verify import verify_proof
from zkcert.core import field as ff
from zkcert.errors import MalformedProof, ProofRejected
from zkcert.public.statement import Statement

DIGITS = (Digit(unsigned(3)), Digit(balanced(4), 3))
LAYOUTS = {
    "no inner axes": ((), 1, 1),
    "one entry": ((1, 1), 1, 1),
    "padded, not cut": ((5, 6), SMALLEST_CUT, 1),
    "cut on no axis": ((4, 8), 1, 1),
    "first axis": ((6, 4), 1, 2),
    "last axis": ((4, 7), 1, 3),
    "several axes": ((3, 5, 7), 1, 12),
    "padded at the end": ((47, 3), 64, 4),
    "one entry at the end": ((9, 5), 128, 4),
}
"""Inner axes of a tensor, the size from which it is cut, and how many blocks that gives."""
UNROLL = 4


def irregular(rng, size):
    return tuple(rng.integers(-1, size, int(rng.integers(1, 8))).tolist())


def table(rng, size):
    """(k, s) with -1 here and there, rows injective."""
    columns = int(rng.integers(1, size + 2))
    rows = [rng.permutation(np.concatenate([np.arange(size), np.full(columns, -1)]))[:columns] for _ in range(3)]
    return table_of(np.array(rows))


SOURCES = {
    "same": lambda rng, a, n: Axis(a, n),
    "every other": lambda rng, a, n: Map(a, tuple(range(int(rng.integers(min(2, n))), n, 2)), n),
    "every third": lambda rng, a, n: Map(a, tuple(range(int(rng.integers(min(3, n))), n, 3)), n),
    "a part": lambda rng, a, n: Map(a, tuple(range(n // 3, n - n // 4)), n),
    "one": lambda rng, a, n: Map(a, (int(rng.integers(n)),), n),
    "backwards": lambda rng, a, n: Map(a, tuple(range(n))[::-1], n),
    "repeated": lambda rng, a, n: Map(a, tuple(i // 2 for i in range(2 * n - 1)), n),
    "irregular": lambda rng, a, n: Map(a, irregular(rng, n), n),
    "nothing": lambda rng, a, n: Map(a, (-1, -1), n),
    "gather": lambda rng, a, n: Gather(a + "k", a + "s", table(rng, n), n),
    "suffix": lambda rng, a, n: SuffixGather(a + "k", a + "s", table(rng, n), n),
    "tail": lambda rng, a, n: TailGather(a + "k", a + "s", table(rng, n), n),
    "gather sum": lambda rng, a, n: GatherSum(a + "s", table(rng, n), n),
    "repeated sum": lambda rng, a, n: GatherSum(a + "s", table_of(rng.integers(-1, n, (3, n + 2))), n),
    "sum": lambda rng, a, n: Sum(n),
    "weighted sum": lambda rng, a, n: Sum(n, tuple(rng.integers(0, 5, n).tolist())),
    "scaled": lambda rng, a, n: Scaled(a, tuple(rng.integers(0, 5, n).tolist()), n),
}
LINEAR = ("suffix", "tail", "gather sum", "repeated sum", "sum", "weighted sum", "scaled")
OPERANDS = tuple(name for name in SOURCES if name not in LINEAR)
"""What operands of products read without folding."""


def matrix(source):
    """The map that a source is, written out: integers (*domain indices, tensor index)."""
    n = source.size
    unit = np.concatenate([np.eye(n, dtype=np.int64), np.zeros((1, n), np.int64)])  # the last row: -1
    match source:
        case Axis():
            return unit[:n]
        case Scaled():
            return np.diag(source.weights)
        case Map():
            return unit[list(source.table)]
        case Gather():
            return unit[source.table.index]
        case SuffixGather():
            rows = source.table.index
            return np.stack([sum(unit[row] for row in rows[: k + 1]) for k in range(len(rows))])
        case TailGather():
            rows = source.table.index
            tails = [sum((unit[row] for row in rows[k + 1 :]), 0 * unit[rows[0]]) for k in range(len(rows))]
            return np.stack(tails) * (rows >= 0)[..., None]
        case GatherSum():
            return sum(unit[row] for row in source.table.index)
        case Sum():
            return np.array(source.weights or [1] * n)


def plain(entries, view, axes):
    """The view of entries (*sizes) over the domain axes; those that it does not read have length 1."""
    names = []
    for source in reversed(view.sources):  # entries: the tensor axes that are left, then the domain axes of `names`
        m, axis = matrix(source), entries.ndim - len(names) - 1
        entries = np.tensordot(entries, m, (axis, m.ndim - 1))
        entries = np.moveaxis(entries, range(entries.ndim - m.ndim + 1, entries.ndim), range(axis, axis + m.ndim - 1))
        names = [*source.axes, *names]
    order = [names.index(a.name) for a in axes if a.name in names]
    shape = [a.size if a.name in names else 1 for a in axes]
    return np.asarray(entries).transpose(order).reshape(shape)


def domain(view):
    return [Axis(name, size) for s in view.sources for name, size in s.extents().items()]


def filled(shape, cut, unroll=UNROLL, seed=0):
    """A tensor with random digits, these as an array, and the witness that holds them."""
    rng, c = np.random.default_rng(seed), Circuit()
    c.tensor("before", 2, (3, 3), DIGITS)
    t = c.tensor("t", unroll, shape, DIGITS)
    c.tensor("after", 1, (40,), DIGITS)
    w = Witness(Layout(c, cut))
    digits = np.stack([rng.integers(d.range.lo, d.range.hi + 1, t.sizes) for d in t.digits])
    for d, values in enumerate(digits):
        w.write(t, d, values)
    return t, digits, w


def view_of(rng, t, kinds):
    sources = zip(kinds, t.sizes, strict=True)
    return View(t, tuple(SOURCES[kind](rng, f"a{i}", size) for i, (kind, size) in enumerate(sources)))


def random_window(rng, axes):
    out = {}
    for a in axes:
        if rng.random() < 0.6:
            start, stop = sorted(rng.integers(0, a.size + 1, 2).tolist())
            out[a.name] = slice(min(start, a.size - 1), max(stop, min(start, a.size - 1) + 1))
    return out


def check_reading(rng, w, digits, view):
    """Every reader of one view against the twin."""
    axes = [*domain(view)]
    axes.insert(int(rng.integers(len(axes) + 1)), Axis("unread", 3))
    axes = [axes[i] for i in rng.permutation(len(axes))]
    for d in range(len(digits)):
        want = plain(digits[d], view, axes)
        for window in ({}, random_window(rng, axes), random_window(rng, axes)):
            cut = want[tuple(window.get(a.name, slice(None)) if a.name in view.axes else slice(None) for a in axes)]
            assert np.array_equal(w.read(view, d, axes, window), cut), (view, window)
            if all(isinstance(s, Axis | Map | Gather) for s in view.sources):
                sizes = [len(range(a.size)[window.get(a.name, slice(None))]) for a in axes]
                length = sizes[-1] + 2
                block = read_block(w, [(view, d)], axes, window, length).reshape(*sizes[:-1], length)
                assert np.array_equal(block[..., :-2], np.broadcast_to(cut, sizes)) and not block[..., -2:].any()
        vecs = {a.name: random_f_array(rng, a.size) for a in axes}
        total = ff.f_from_fp(ff.fp_from_int(want.astype(np.int64)))
        for i, a in enumerate(axes):
            shape = [2] + [1] * len(axes)
            shape[i + 1] = a.size
            total = ff.f_mul(*np.broadcast_arrays(total, vecs[a.name].reshape(shape)))
        found = functional_value(w, Resolver(vecs, frozenset(vecs)).functional(view.digit(d)))
        assert found == ff.f_item(ff.f_sum(total.reshape(2, -1))), view


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_source_on_every_axis(layout):
    shape, cut, blocks = LAYOUTS[layout]
    t, digits, w = filled(shape, cut)
    assert len(w.layout.places[t].blocks) == blocks
    rng = np.random.default_rng(1)
    for axis, kind in product(range(len(t.sizes)), SOURCES):
        check_reading(rng, w, digits, view_of(rng, t, [kind if i == axis else "same" for i in range(len(t.sizes))]))


SIZES = st.sampled_from([1, 2, 3, 5, 6, 7, 9, 11, 31, 33])
SHAPES = st.lists(SIZES, max_size=3).filter(lambda shape: np.prod(shape, initial=1) < 1000)


@settings(max_examples=150, deadline=None)
@given(
    shape=SHAPES,
    cut=st.sampled_from([1, 2, 4, 8, 16, 64, 1024, SMALLEST_CUT]),
    unroll=st.integers(1, 5),
    seed=st.integers(0, 1 << 30),
    data=st.data(),
)
def test_sources_together(shape, cut, unroll, seed, data):
    t, digits, w = filled(tuple(shape), cut, unroll, seed)
    rng = np.random.default_rng(seed)
    check_reading(rng, w, digits, view_of(rng, t, [data.draw(st.sampled_from(sorted(SOURCES))) for _ in t.sizes]))


def slices(size):
    bounds = st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted)
    return st.builds(lambda b, step: slice(b[0], b[1], step), bounds, st.one_of(st.none(), st.integers(1, size + 1)))


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, cut=st.sampled_from([1, 4, 16, SMALLEST_CUT]), data=st.data())
def test_regions_are_what_numpy_reads(shape, cut, data):
    t, digits, w = filled(tuple(shape), cut)
    at = [data.draw(st.one_of(st.integers(0, n - 1), slices(n))) for n in t.sizes]
    region = w.region(t, 1, at)
    assert region.shape == digits[1][tuple(at)].shape and np.array_equal(region, digits[1][tuple(at)])


@pytest.mark.parametrize("cut", [1, SMALLEST_CUT])
def test_what_is_no_region_is_refused(cut):
    """-1 means "absent" in index tables; it must not read the last entry."""
    t, _, w = filled((5, 6), cut)
    for wrong in (-1, 5, slice(0, 6), slice(-2, None), slice(4, 2), slice(None, None, -1), slice(0, 4, 0)):
        with pytest.raises(IndexError, match="picks nothing"):
            w.region(t, 0, [0, wrong, slice(None)])
    for wrong in ([0, 2], np.array([0, 2]), None, ..., (1,)):
        with pytest.raises((TypeError, ValueError)):
            w.region(t, 0, [0, wrong, slice(None)])
    with pytest.raises(ValueError, match="zip"):
        w.region(t, 0, [0, slice(None)])
    for wrong in (-1, UNROLL):
        with pytest.raises(IndexError):
            w.digit(t, 0, wrong)
        with pytest.raises(IndexError):
            w.value(t, wrong)
        with pytest.raises(IndexError):
            w.write(t, 0, np.zeros(t.shape), wrong)


@settings(max_examples=150)
@given(size=st.integers(1, 40), data=st.data())
def test_indices_meet_a_block_where_they_lie_in_it(size, data):
    wanted = indices(data.draw(slices(size)), size)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
    inside = [(i, x - start) for i, x in enumerate(wanted) if start <= x < stop]
    found = meet(wanted, slice(start, stop))
    if found is None:
        assert not inside
    else:
        places, within = (range(size)[part] for part in found)
        assert list(zip(places, within, strict=True)) == inside


def test_an_axis_is_read_by_one_source():
    t, _, _ = filled((5, 5), 1)
    with pytest.raises(ValueError, match="two sources"):
        View(t, (Axis("t", UNROLL), Axis("a", 5), Axis("a", 5)))


# ------------------------------------------------------------------------------------------------ complete proofs


NARROW = (Digit(unsigned(2)),)
TOTAL = tuple(Digit(unsigned(6), 6 * i) for i in range(3))


@cache
def sources_circuit(layout):
    """For every kind of source on every inner axis of a tensor, what it reads, and a product of that, committed."""
    shape, cut, _ = LAYOUTS[layout]
    rng, c = np.random.default_rng(2), Circuit()
    t, u = (c.tensor(name, UNROLL, shape, NARROW) for name in "tu")
    values = {x: rng.integers(0, 4, x.sizes) for x in (t, u)}
    for axis, kind in product(range(min(len(shape), 1), len(t.sizes)), SOURCES):
        view = view_of(rng, t, [kind if i == axis else "same" for i in range(len(t.sizes))])
        axes = domain(view)
        read = plain(values[t], view, axes)
        name = f"{kind} on {axis}"
        put(c, values, name, axes, read, expr(view.whole()))
        if kind not in OPERANDS:
            continue
        other = View(u, view.sources)
        summed = axes[-1:]
        out = np.asarray((read * plain(values[u], other, axes)).sum(axis=-1))
        put(c, values, f"product, {name}", axes[:-1], out, times(view.whole(), other.whole()), summed)
    c.publics.append(PublicTensor(u, UNROLL - 1, values[u][-1][None]))
    return Layout(c, cut), values


def put(c, values, name, axes, result, left, summed=()):
    """Commit `result` over the axes, the first of them unrolled, and state that it is `left`."""
    sizes = [a.size for a in axes] or [1]
    t = c.tensor(name, sizes[0], sizes[1:], TOTAL)
    values[t] = np.asarray(result).reshape(sizes)
    sources = [*axes] or [Sum(1)]
    con = c.constraint(name, axes, summed)
    con.add("result", left - View(t, tuple(sources)).whole())


def witness_of(layout, values):
    w = Witness(layout)
    for t, v in values.items():
        w.put(t, v)
    return w


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_proof_about_every_source(name):
    layout, values = sources_circuit(name)
    with light_grinding():
        proof = prove_circuit(layout, witness_of(layout, values), toy_transcript(), strict=True)
        verify_circuit(layout, toy_transcript(), proof)


def last(values):
    """One at the last entry, zero elsewhere."""
    return np.arange(1 - values.size, 1).reshape(values.shape) == 0


@pytest.mark.parametrize("name", ["several axes", "one entry at the end"])
def test_the_last_entry_of_the_last_block_counts(name):
    layout, values = sources_circuit(name)
    t = next(t for t in values if t.name.startswith("product, every other on 1"))
    assert values[t].size > 1
    w = witness_of(layout, {**values, t: values[t] + last(values[t])})
    with light_grinding(), pytest.raises(ProofRejected):
        verify_circuit(layout, toy_transcript(), prove_circuit(layout, w, toy_transcript()))


def test_the_verifier_chooses_from_which_size_tensors_are_cut():
    """Not the prover: a proof over other columns is refused, and no file or command names the size."""
    layout, values = sources_circuit("several axes")
    with light_grinding(), pytest.raises((ProofRejected, MalformedProof)):
        proof = prove_circuit(layout, witness_of(layout, values), toy_transcript())
        verify_circuit(Layout(layout.circuit), toy_transcript(), proof)
    for constant in ("smallest_cut", "residue_cost"):
        assert constant in signature(verify_proof).parameters
        assert constant not in signature(verify_files).parameters
        assert constant not in {field.name for field in fields(Statement)}
