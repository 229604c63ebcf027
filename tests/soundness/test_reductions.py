"""Sums over prefixes, the combined weight, sum-checks: each against a plain definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from circuits.argument import lookups
from circuits.argument.batching import span_at, weight_at
from circuits.argument.claims import Claim, Functional, ProductJob, Span, Term
from circuits.argument.identities import product_sumcheck
from circuits.argument.lookups import FractionSum, digit_trees, fraction_layer, unit_leaves
from circuits.language.layout import column_heads, eq_at, prefix_eq, prefix_eq2, prefix_index
from circuits.language.sources import Axis
from circuits.language.tensors import ceil_log2
from prover import trees
from prover.channel import Pads, ProverChannel
from prover.execution.witness import Witness
from prover.trees import DigitTree, Leaves, Tree
from tests import twins
from tests.builders import Digits, tiny_cnn, tiny_mlp
from tests.soundness.oracles import (
    eq,
    total,
)
from tests.toys import (
    multilinear,
    prove_toy,
    random_f_array,
    random_fs,
    toy_layout,
    verify_toy,
)
from zkcert.core import field as ff
from zkcert.core.field import F
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected

SEED = np.random.default_rng(2026)


@pytest.mark.parametrize("bits", range(6))
def test_prefix_sums_equal_the_sums_they_stand_for(bits):
    r, z = random_fs(SEED, bits), random_fs(SEED, bits)
    for length in range((1 << bits) + 1):
        assert prefix_eq(r, length) == total(eq(r, i) for i in range(length))
        assert prefix_eq2(r, z, length) == total(eq(r, i) * eq(z, i) for i in range(length))
        assert prefix_index(r, length) == total(eq(r, i) * i for i in range(length))


def test_prefixes_longer_than_the_table_are_the_whole_table():
    r, z = random_fs(SEED, 3), random_fs(SEED, 3)
    for length in (9, 100):
        assert prefix_eq(r, length) == F.ONE
        assert prefix_eq2(r, z, length) == ff.eq_eval(r, z)
        assert prefix_index(r, length) == prefix_index(r, 8)


@pytest.mark.parametrize("bits", range(7))
def test_eq_at_agrees_with_the_product_formula(bits):
    point = random_fs(SEED, bits)
    index = np.arange(1 << bits)[::-1].copy()
    assert ff.f_list(eq_at(point, index)) == [eq(point, int(i)) for i in index]


def position_of_every_digit(layout):
    """Where X holds each digit: per tensor an int64 array (n_digits, unroll, *shape); the columns do not overlap."""
    w, label, start = Witness(layout), 1, {}
    for t in layout.circuit.tensors:
        size = w.array(t).size
        Digits(w, t)[...] = np.arange(label, label + size).reshape(w.array(t).shape)
        start[t], label = label, label + size
    x = w.x[: layout.digit_count]
    where = np.full(label, -1)
    where[x] = np.arange(len(x))
    assert np.count_nonzero(x) == label - 1 and (where[1:] >= 0).all()
    return {t: where[w.array(t)] for t in layout.circuit.tensors}


def dense_weights(layout, claims, weights, bits):
    """The combined weight vector entry by entry."""
    out = [F.ZERO] * (1 << bits)
    positions = position_of_every_digit(layout)
    for claim, c in zip(claims, weights, strict=True):
        for span in claim.functional.spans:
            for i in range(span.count):
                out[span.start + i] = out[span.start + i] + c * eq(span.point, i)
        for term in claim.functional.terms:
            vectors = [ff.f_list(v) for v in term.vecs]
            for d, coef in term.coefs.items():
                for index in np.ndindex(*term.tensor.sizes):
                    value = c * coef
                    for vec, i in zip(vectors, index, strict=True):
                        value = value * vec[i]
                    at = positions[term.tensor][(d, *index)]
                    out[at] = out[at] + value
    return out


def test_weight_at_is_the_extension_of_the_combined_weight_vector():
    layout, rng = toy_layout(), np.random.default_rng(3)
    bits = layout.code.variables
    claims = []
    for t in layout.circuit.tensors:
        digits = list(range(len(t.digits)))[::-1]
        coefs = dict(zip(digits, random_fs(rng, len(digits)), strict=True))
        vecs = tuple(random_f_array(rng, size) for size in t.sizes)
        claims.append(Claim(t.name, Functional((Term(t, coefs, vecs), Term(t, {0: F(3)}, vecs))), 0))
    spans = (
        Span(0, layout.digit_count, tuple(random_fs(rng, ceil_log2(layout.digit_count)))),
        Span(
            layout.multiplicity_start,
            layout.table_entries,
            tuple(random_fs(rng, ceil_log2(layout.table_entries))),
        ),
    )
    claims += [Claim("spans", Functional(spans=spans), 0), Claim("digits", Functional(spans=spans[:1]), 0)]
    weights = random_fs(rng, len(claims))
    z = random_fs(rng, bits)
    assert weight_at(layout, claims, weights, z) == multilinear(dense_weights(layout, claims, weights, bits), z)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11, 12])
def test_a_span_that_does_not_start_at_zero_is_weighed_block_by_block(count):
    rng = np.random.default_rng(count)
    z, point = random_fs(rng, 6), random_fs(rng, ceil_log2(count))
    for start in (4, 16, 40):
        want = total(eq(point, i) * eq(z, start + i) for i in range(count))
        assert span_at(Span(start, count, tuple(point)), z) == want


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_a_span_that_starts_at_a_multiple_of_its_size_is_a_prefix_of_it(count):
    rng, bits = np.random.default_rng(count), ceil_log2(count)
    z, point = random_fs(rng, 6), random_fs(rng, bits)
    for start in range(0, 64, 1 << bits):
        want = total(eq(point, i) * eq(z, start + i) for i in range(count))
        assert span_at(Span(start, count, tuple(point)), z) == want


def test_column_heads_are_eq_at_the_columns_positions():
    layout, rng = toy_layout(), np.random.default_rng(4)
    z = random_fs(rng, layout.code.variables)
    for (t, b), head in column_heads(layout, z).items():
        place = layout.places[t]
        bits = place.blocks[b].bits
        for d, u in np.ndindex(*place.positions[b].shape):
            at = int(place.positions[b][d, u])
            assert at % (1 << bits) == 0
            assert ff.f_item(head, (d, u)) == eq(z[: len(z) - bits], at >> bits)


def test_padding_of_a_column_lies_in_the_range_of_its_digit():
    for case in (tiny_cnn(steps=3, batch=3), tiny_mlp(kind="q32", batch=3, variant="sam")):
        circuit = case.run()[0].circuit
        assert [t.name for t in circuit.tensors for d in t.digits if not d.range.lo <= 0 <= d.range.hi] == []


def strict_channel(singles, triples, seed=0):
    """A prover's channel that checks itself, with random pads."""
    pads = Pads.draw(bytes([seed]) * 32, singles, triples)
    return ProverChannel(Transcript("unit"), pads, strict=True)


@pytest.mark.parametrize(
    ("eq_sizes", "plain_sizes", "count"),
    [((), (), 1), ((3,), (), 2), ((), (5,), 1), ((3, 2), (5, 1), 3), ((1,), (2,), 1), ((8,), (4,), 2)],
)
def test_product_sumcheck_ends_at_the_products_of_the_tables(eq_sizes, plain_sizes, count):
    rng = np.random.default_rng(len(eq_sizes) * 10 + count)
    eq_axes = tuple(Axis(f"e{i}", n) for i, n in enumerate(eq_sizes))
    plain = tuple(Axis(f"s{i}", n) for i, n in enumerate(plain_sizes))
    eq_bits, bits = sum(a.bits for a in eq_axes), sum(a.bits for a in eq_axes + plain)
    pairs = [(random_fs(rng, 1 << bits), random_fs(rng, 1 << bits)) for _ in range(count)]
    job = ProductJob("unit", eq_axes, plain, random_fs(rng, eq_bits), {}, [], [])
    oracle = twins.Products(pairs, job.eq_point)
    weight = [eq(job.eq_point, i >> (bits - eq_bits)) for i in range(1 << bits)]
    claimed = total(w * a[i] * b[i] for a, b in pairs for i, w in enumerate(weight))

    ch = strict_channel(2 * bits, 0)
    claim, point = product_sumcheck(ch, oracle, ch.tape.known(claimed), job)
    assert len(point) == bits and ch.tape.singles == 2 * bits
    want = total(multilinear(list(a), point) * multilinear(list(b), point) for a, b in pairs)
    assert ch.value(claim) == want

    wrong = strict_channel(2 * bits, 0)
    oracle = twins.Products(pairs, job.eq_point)
    claim, point = product_sumcheck(wrong, oracle, wrong.tape.known(claimed + 1), job)
    want = total(multilinear(list(a), point) * multilinear(list(b), point) for a, b in pairs)
    assert wrong.value(claim) != want


def tree_of(p, q):
    """The tree over fractions p/q (2, n), with 0/1 after them."""
    depth = ceil_log2(p.shape[1])
    level = np.zeros((4, 1 << depth), np.uint64)
    level[2] = 1
    level[:, : p.shape[1]] = np.concatenate([p, q])
    return Tree(level, depth), depth


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 13])
def test_fraction_layers_end_at_the_leaves_and_the_root_is_the_rational_sum(count):
    rng = np.random.default_rng(count)
    tops, bottoms = rng.integers(-9, 10, count).tolist(), rng.integers(1, 12, count).tolist()
    p = ff.f_from_fp(ff.fp_from_int(np.array(tops)))
    q = ff.f_from_fp(ff.fp_from_int(np.array(bottoms)))
    tree, depth = tree_of(p, q)
    top, bottom = tree.root()
    exact = sum((Fraction(a, b) for a, b in zip(tops, bottoms, strict=True)), Fraction(0))
    assert top * exact.denominator == bottom * exact.numerator
    assert bottom == int(np.prod(np.array(bottoms, object)))

    ch = strict_channel(depth * (depth - 1), 2 * depth)
    point, pn, qn = [], ch.tape.known(top), ch.tape.known(bottom)
    for _ in range(depth):
        point, pn, qn = fraction_layer(ch, tree, "unit", point, pn, qn)
    assert (ch.tape.singles, ch.tape.triples) == (depth * (depth - 1), 2 * depth)
    assert ch.value(pn) == multilinear(p, point)
    padded = ff.f_list(q) + [F.ONE] * ((1 << depth) - count)
    assert ch.value(qn) == multilinear(padded, point)


@pytest.mark.parametrize("change", ["numerator", "denominator"])
@pytest.mark.parametrize("kind", ["fractions", "digits"])
def test_a_tree_refuses_another_root(change, kind):
    rng = np.random.default_rng(1)
    if kind == "fractions":
        tree, _ = tree_of(*(random_f_array(rng, 6) for _ in range(2)))
    else:
        tree = DigitTree(Leaves(np.arange(2, dtype=np.int32), 2, np.array([0]), random_f_array(rng, 1)))
    top, bottom = tree.root()
    if change == "numerator":
        top = top + 1
    else:
        bottom = bottom + 1
    ch = strict_channel(6, 6)
    with pytest.raises(ProofRejected) as caught:
        if kind == "fractions":
            fraction_layer(ch, tree, "unit", [], ch.tape.known(top), ch.tape.known(bottom))
        else:
            unit_leaves(ch, tree, "unit", 2, [], ch.tape.known(top), ch.tape.known(bottom))
    assert caught.value.check == "range-check/unit"


@pytest.mark.parametrize("count", [*range(2, 20), 31, 32, 33, 130, 1000])
@pytest.mark.parametrize("small", [12, 3])
@pytest.mark.parametrize("inner", [12, 7])
def test_a_tree_of_digits_ends_at_its_digits(count, small, inner, monkeypatch):
    monkeypatch.setattr(trees, "SMALL_DEPTH", small)
    monkeypatch.setattr(trees, "INNER_BITS", inner)
    rng = np.random.default_rng(count)
    x = rng.integers(-(1 << 21), 1 << 22, count).astype(np.int32)
    starts = np.unique(np.append(rng.integers(0, count, 4), 0))
    bases = random_fs(rng, len(starts))
    q = [bases[int(np.searchsorted(starts, i, side="right")) - 1] - int(v) for i, v in enumerate(x)]
    tree, depth = DigitTree(Leaves(x, count, starts, ff.f_array(bases))), ceil_log2(count)
    top, bottom = tree.root()
    assert top / bottom == total(v.inv() for v in q)

    ch = strict_channel(depth * (depth - 1), 2 * depth - 1)
    point, pn, qn = [], ch.tape.known(top), ch.tape.known(bottom)
    for _ in range(depth - 1):
        point, pn, qn = fraction_layer(ch, tree, "unit", point, pn, qn)
    point, qn = unit_leaves(ch, tree, "unit", count, point, pn, qn)
    assert (ch.tape.singles, ch.tape.triples) == (depth * (depth - 1), 2 * depth - 1)
    assert ch.value(qn) == multilinear(q + [F.ONE] * ((1 << depth) - count), point)


@pytest.mark.parametrize("piece", [trees.PIECE, 3])
def test_a_tree_over_the_tables_is_that_of_its_entries(piece, monkeypatch):
    monkeypatch.setattr(trees, "PIECE", piece)
    layout, rng = toy_layout(), np.random.default_rng(piece)
    x, (alpha,) = rng.integers(0, 100, layout.data_end).astype(np.int32), random_fs(rng, 1)
    tree, half = trees.TableTree(layout, x, alpha, F.ZERO), layout.table_entries // 2
    depth = ceil_log2(layout.table_entries)
    entries = [alpha - F(entry, cls) for cls, size in enumerate(layout.tables) for entry in range(size)]
    counts = x[layout.multiplicity_start :]
    top, bottom = tree.root()
    assert top / bottom == total(entry.inv() * -int(m) for entry, m in zip(entries, counts, strict=True))
    plain = trees.Tree(tree.leaves(0, 1 << depth), depth)
    assert plain.root() == tree.root() and len(tree.levels) == depth - 1
    assert np.array_equal(tree.levels[0][:, :half], plain.levels[1][:, :half])
    for bits in range(depth):
        point, lam = random_fs(rng, bits), F(bits, 1)
        assert np.array_equal(
            tree.layer(point, lam).level[:, : 2 << bits], plain.layer(point, lam).level[:, : 2 << bits]
        )
        tree.last.children = plain.last.children = (top, bottom), (top, bottom)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_sum_of_hidden_fractions_is_proved(count):
    rng = np.random.default_rng(count)
    roots = [tuple(random_fs(rng, 2)) for _ in range(count - 1)]
    last = random_fs(rng, 1)[0]
    roots.append((-total(p / q for p, q in roots) * last, last))

    def run_sum(fractions):
        ch = strict_channel(2, 3 * (count - 2) + 2)
        roots = FractionSum(ch)
        nodes = [roots.add(f) for f in fractions[:-1]] + [roots.add(fractions[-1], last=True)]
        assert (ch.tape.singles, ch.tape.triples) == (2, 3 * (count - 2) + 2)
        return [(ch.value(p), ch.value(q)) for p, q in nodes]

    assert run_sum(roots) == roots
    for i in range(count):
        for change in ((1, 0), (0, 1)):
            wrong = list(roots)
            wrong[i] = roots[i][0] + change[0], roots[i][1] + change[1]
            with pytest.raises(ProofRejected) as caught:
                run_sum(wrong)
            assert caught.value.check == "range-check/roots"


@pytest.mark.parametrize("bits", range(9))
def test_blocks_of_any_size_are_proved(bits, monkeypatch):
    """Many trees, a last one that is not full (one digit with blocks of one), and a single tree."""
    monkeypatch.setattr(lookups, "TREE_BITS", bits)
    layout = toy_layout()
    blocks = digit_trees(layout)
    assert sum(count for _, count in blocks) == layout.digit_count and (len(blocks) > 1) == (bits < 8)
    if bits in (0, 1, 4, 7, 8):
        verify_toy(prove_toy(strict=True))
