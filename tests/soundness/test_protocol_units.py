"""The parts of the argument one by one, each against a plain definition."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, log2
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.argument import lookups
from circuits.argument.batching import span_at, weight_at
from circuits.argument.blind import Blind
from circuits.argument.channel import PadForm, Tape
from circuits.argument.claims import Claim, Functional, ProductJob, Span, Term
from circuits.argument.identities import product_sumcheck
from circuits.argument.lookups import FractionSum, digit_trees, fraction_layer, unit_leaves
from circuits.argument.protocol import message_counts, run
from circuits.compile import Certificate
from circuits.language.constraints import Circuit, DomainAxis, product
from circuits.language.forms import View
from circuits.language.layout import Layout, column_heads, eq_at, prefix_eq, prefix_eq2, prefix_index
from circuits.language.sources import ONCE, Same, scatter
from circuits.language.tensors import Digit, Range, ceil_log2, unsigned
from prover import trees
from prover.argument import prove_circuit
from prover.channel import Pads, ProverChannel
from prover.commit import MatrixCommitment, claim_table
from prover.execution.witness import Witness
from prover.pads import PadCommitment
from prover.trees import DigitTree, Leaves, Tree
from tests import twins
from tests.builders import Digits, tiny_cnn, tiny_mlp
from tests.toys import (
    light_grinding,
    multilinear,
    prove_toy,
    random_f_array,
    random_fs,
    toy_layout,
    toy_proof,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from verifier.argument import verify_circuit
from verifier.channel import VerifierChannel
from verifier.opening import verify_opening
from verifier.pads import verify_pads
from verifier.soundness import soundness
from verifier.verify import REQUIRED_BITS
from zkcert.core import code as codes
from zkcert.core import field as ff
from zkcert.core.code import MatrixCode, PadCode, matrix_code, pad_code, queries_for
from zkcert.core.field import F, P
from zkcert.core.opening import Claims, packed_value, powers, query_points, tail_values
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript, xof_field
from zkcert.errors import ProofRejected

SEED = np.random.default_rng(2026)


def total(values):
    return sum(values, F.ZERO)


def eq(point, index):
    """eq(point, bits of index), most significant first."""
    out = F.ONE
    for j, r in enumerate(point):
        out = out * (r if (index >> (len(point) - 1 - j)) & 1 else 1 - r)
    return out


# ------------------------------------------------------------------------------------------------ sums over prefixes


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


# ------------------------------------------------------------------------------------------------ the combined weight


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
    bits = matrix_code(layout.data_end).variables
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
    layout = SimpleNamespace(multiplicity_bits=2)
    rng = np.random.default_rng(count)
    z, point = random_fs(rng, 6), random_fs(rng, ceil_log2(count))
    for start in (4, 16, 40):
        want = total(eq(point, i) * eq(z, start + i) for i in range(count))
        assert span_at(layout, Span(start, count, tuple(point)), z) == want


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_a_span_that_starts_at_a_multiple_of_its_size_is_a_prefix_of_it(count):
    rng, bits = np.random.default_rng(count), ceil_log2(count)
    z, point = random_fs(rng, 6), random_fs(rng, bits)
    for start in range(0, 64, 1 << bits):
        want = total(eq(point, i) * eq(z, start + i) for i in range(count))
        assert span_at(SimpleNamespace(), Span(start, count, tuple(point)), z) == want


def test_column_heads_are_eq_at_the_columns_positions():
    layout, rng = toy_layout(), np.random.default_rng(4)
    z = random_fs(rng, matrix_code(layout.data_end).variables)
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


# ------------------------------------------------------------------------------------------------ sum-checks


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
    eq_axes = tuple(DomainAxis(f"e{i}", n) for i, n in enumerate(eq_sizes))
    plain = tuple(DomainAxis(f"s{i}", n) for i, n in enumerate(plain_sizes))
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


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_sum_of_hidden_fractions_is_proved(count):
    rng = np.random.default_rng(count)
    roots = [tuple(random_fs(rng, 2)) for _ in range(count - 1)]
    last = random_fs(rng, 1)[0]
    roots.append((-total(p / q for p, q in roots) * last, last))

    def run_sum(fractions):
        ch = strict_channel(2, 3 * (count - 2) + 2)
        roots = FractionSum(ch)
        nodes = [roots.add(f) for f in fractions[:-1]] + [roots.finish(fractions[-1])]
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


# ------------------------------------------------------------------------------------------------ matrix opening


def small_code(data_rows, row_bits=3, queries=4):
    return MatrixCode(row_bits, data_rows, row_bits + 2, queries)


def open_matrix(code, entries, secret=bytes(32)):
    rng = np.random.default_rng(entries)
    x = rng.integers(-(1 << 21), 1 << 22, entries).astype(np.int32)
    matrix = MatrixCommitment(x, code, secret)
    z = random_fs(rng, code.variables)
    opening = matrix.open(Transcript("open"), z)
    return x, matrix, z, opening


def whole_vector(x, matrix):
    """X with its masking rows, as integers and residues."""
    code = matrix.code
    full = np.zeros((code.rows, code.width, 2), object)
    full[: code.mask_row].reshape(-1)[: len(x)] = x.tolist()
    full[code.mask_row :] = np.moveaxis(matrix.masks, 0, -1).astype(object)
    return [F(int(v)) for v in full.ravel()]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 9, 60, 61, 63, 65])
def test_matrix_opening_is_complete_for_every_number_of_rows(rows):
    code = small_code(rows)
    entries = 2 * code.width * rows - 3
    x, matrix, z, opening = open_matrix(code, entries)
    value = multilinear(whole_vector(x, matrix), z)
    verify_opening(Reader(opening), Transcript("open"), code, matrix.root, z, value)
    with pytest.raises(ProofRejected, match="opening/value"):
        verify_opening(Reader(opening), Transcript("open"), code, matrix.root, z, value + 1)


@pytest.mark.parametrize("row_bits", [0, 1, 5])
def test_matrix_opening_is_complete_for_every_row_length(row_bits):
    code = MatrixCode(row_bits, 3, row_bits + 5, 3)
    x, matrix, z, opening = open_matrix(code, 6 << row_bits)
    value = multilinear(whole_vector(x, matrix), z)
    verify_opening(Reader(opening), Transcript("open"), code, matrix.root, z, value)


def test_another_root_or_point_is_refused():
    code = small_code(5)
    x, matrix, z, opening = open_matrix(code, 70)
    value = multilinear(whole_vector(x, matrix), z)
    with pytest.raises(ProofRejected, match="opening/merkle"):
        verify_opening(Reader(opening), Transcript("open"), code, bytes(32), z, value)
    moved = [z[0] + 1, *z[1:]]
    with pytest.raises(ProofRejected, match="opening/"):
        verify_opening(Reader(opening), Transcript("open"), code, matrix.root, moved, value)


def test_packed_value_is_the_extension_of_both_halves():
    rng, code = np.random.default_rng(8), small_code(6)
    packed = random_f_array(rng, code.rows, code.width)
    z = random_fs(rng, code.variables)
    row = ff.eq_table(z[: code.row_variables])[:, : code.rows]
    combine = lambda w: np.ascontiguousarray(ff.f_sum(ff.f_mul(packed, w[:, :, None]), axis=1))  # noqa: E731
    eq = ff.eq_table(z[code.row_variables : -1])
    inner = ff.f_dot(combine(row), eq), ff.f_dot(combine(ff.f_conj(row)), ff.f_conj(eq))
    real_and_imaginary = np.moveaxis(packed, 0, -1).ravel()
    want = multilinear([F(int(v)) for v in real_and_imaginary], z)
    assert packed_value(inner, z[-1]) == want


def test_query_points_are_the_roots_in_bit_reversed_order():
    for log_n in (0, 1, 3, 7):
        w = ff.root_of_unity(log_n)
        got = ff.f_list(query_points(log_n, range(1 << log_n)))
        assert got == [w ** int(f"{j:0{log_n}b}"[::-1], 2) for j in range(1 << log_n)]
    rng = np.random.default_rng(6)
    points = random_fs(rng, 3)
    for count in (1, 2, 5, 8):
        table = powers(ff.f_array(points), count)
        assert [ff.f_list(table[:, i]) for i in range(3)] == [[x**c for c in range(count)] for x in points]


@pytest.mark.parametrize("row_bits", [0, 1, 4])
def test_claims_on_the_combined_rows(row_bits):
    """Total, table and extension of the combined weights against the definitions, scalar by scalar."""
    rng, code = np.random.default_rng(row_bits), small_code(6, row_bits, 2)
    z = random_fs(rng, code.variables)
    col = z[code.row_variables : -1]
    rows = random_f_array(rng, 3, code.length)
    points = query_points(code.log_n, [1, 5][: code.queries])
    claims = Claims.draw(Transcript("claims"), code, z, points)
    v, xs = [ff.f_list(rows[:, i]) for i in range(3)], ff.f_list(points)
    values = [[sum((c * x**k for k, c in enumerate(row)), F.ZERO) for x in xs] for row in v]
    tails = tail_values(code, np.ascontiguousarray(rows[:, :, code.width :]), points)
    heads = ff.f_sub(np.stack([ff.f_array(row) for row in values], axis=1), tails)
    eq = ff.eq_table(col)
    inner = tuple(ff.f_dot(np.ascontiguousarray(rows[:, i, : code.width]), e) for i, e in ((1, eq), (2, ff.f_conj(eq))))
    table = claim_table(claims, eq)
    vector = np.ascontiguousarray(rows[:, :, : code.width]).reshape(2, -1)
    assert ff.f_dot(vector, table.reshape(2, -1)) == claims.total(heads, inner)
    for i in range(3):
        for c in range(code.width):
            want = claims.rows[i] * sum((b * x**c for b, x in zip(ff.f_list(claims.columns), xs, strict=True)), F.ZERO)
            eq_c = ff.f_item(eq, c)
            want += (F.ZERO, claims.inner[0] * eq_c, claims.inner[1] * eq_c.conj())[i]
            assert ff.f_item(table, (i, c)) == want
    s = random_fs(rng, code.rounds)
    assert claims.weight_at(s) == multilinear([*ff.f_list(table.reshape(2, -1)), *[F.ZERO] * code.width], s)


def test_matrix_code_fits_its_entries_and_meets_its_own_query_count():
    for entries in (1, 100, 4_200_000, 5_000_000, 60_000_000, 10**9):
        code = matrix_code(entries)
        assert 2 * code.width * code.data_rows >= entries
        assert code.mask_row % codes.MASK_ROWS == 0 and code.mask_row >= code.data_rows
        assert code.rows <= 1 << code.row_variables
        assert code.rate < 1 and code.tail <= codes.MAX_TAIL and code.row_bits <= codes.MAX_ROW_BITS
        assert code.queries >= queries_for(code.rate)
        assert code.tail >= code.queries + codes.SPARE_TAIL
        second = code.second
        assert second.width * second.data_rows == codes.COMBINED_ROWS * code.width
        assert second.rows % 4 == 0 and second.data_rows <= second.rows <= 1 << code.rounds - second.row_bits
        assert second.queries >= queries_for(second.rate) and 2 * second.queries <= 1 << second.log_n


# ------------------------------------------------------------------------------------------------ pad proof


def affine_form(pads, rng, wrong=0):
    parts = [random_f_array(rng, v.shape[1]) for v in (pads.singles, pads.x, pads.y, pads.z)]
    value = total(ff.f_dot(c, v) for c, v in zip(parts, (pads.singles, pads.x, pads.y, pads.z), strict=True))
    return PadForm(*parts, const=wrong - value)


def pad_proof(pads, form, secret=bytes(32)):
    commitment = PadCommitment(pads, secret)
    return commitment, commitment.prove(Transcript("pads"), form)


def check_pads(commitment, proof, form, counts):
    code = pad_code(*counts)
    assert code == commitment.code
    verify_pads(Reader(proof), Transcript("pads"), code, commitment.root, form)


MESSAGE = pad_code(1, 0).message


@pytest.mark.parametrize(
    ("singles", "triples"),
    [(1, 0), (1, 1), (MESSAGE, 0), (MESSAGE + 1, 1), (5, MESSAGE), (0, MESSAGE + 1), (0, 2), (700, 40)],
)
def test_pad_proof_is_complete_at_the_edges_of_its_blocks(singles, triples):
    pads = Pads.draw(b"s" * 32, singles, triples)
    form = affine_form(pads, np.random.default_rng(singles))
    check_pads(*pad_proof(pads, form), form, (singles, triples))


def test_pad_proof_refuses_a_false_equation_and_a_false_triple():
    pads = Pads.draw(b"s" * 32, 9, 4)
    form = affine_form(pads, np.random.default_rng(1), wrong=1)
    commitment, proof = pad_proof(pads, form)
    with pytest.raises(ProofRejected, match="hidden-equations"):
        check_pads(commitment, proof, form, (9, 4))

    z = pads.z.copy()
    z[0, 2] ^= np.uint64(1)
    lying = replace(pads, z=z)
    form = affine_form(lying, np.random.default_rng(1))
    commitment, proof = pad_proof(lying, form)
    with pytest.raises(ProofRejected, match="pads/products"):
        check_pads(commitment, proof, form, (9, 4))


def test_collapsed_equations_are_their_random_combination():
    rng = np.random.default_rng(6)
    tape = Tape()
    nodes = [tape.receive(m) for m in random_fs(rng, 4)]
    for a, b in zip(random_fs(rng, 3), random_fs(rng, 3), strict=True):
        nodes += tape.receive_pair(a, b)
    nodes.append(tape.known(F(5)))
    for _ in range(6):
        chosen = rng.choice(len(nodes), 3)
        coefs = random_fs(rng, 3)
        nodes.append(tape.linear([(c, nodes[i]) for c, i in zip(coefs, chosen, strict=True)], random_fs(rng, 1)[0]))
    for i in (0, 5, 9, len(nodes) - 1, len(nodes) - 2):
        tape.assert_zero(nodes[i], f"equation {i}")
    pads = Pads.draw(b"t" * 32, tape.singles, tape.triples)
    ch = ProverChannel(Transcript("unit"), pads)
    ch.tape = tape
    weights = random_fs(rng, 5)
    want = total(w * ch.value(n) for w, (n, _) in zip(weights, tape.equations, strict=True))
    form = tape.collapse(weights)
    got = form.const + total(
        ff.f_dot(c, v)
        for c, v in zip((form.singles, form.x, form.y, form.z), (pads.singles, pads.x, pads.y, pads.z), strict=True)
    )
    assert got == want


def test_pad_code_keeps_a_random_evaluation_for_every_query():
    for singles, triples in ((1, 0), (300, 60), (20_000, 400), (10**6, 10**5)):
        code = pad_code(singles, triples)
        assert (1 << code.block_bits) - code.message >= code.queries
        assert code.single_rows * code.message >= singles and code.triple_rows * code.message >= triples
        assert code.queries * -np.log2((1 + 2 / 16) / 2) >= codes.QUERY_BITS


# ------------------------------------------------------------------------------------------------ whole arguments


def test_toy_argument_is_complete_for_several_witnesses():
    for seed in range(4):
        verify_toy(prove_toy(toy_witness(seed), strict=True))


def test_toy_argument_is_complete_with_all_its_grinding():
    proof = prove_circuit(toy_layout(), toy_witness(), toy_transcript())
    verify_circuit(toy_layout(), toy_transcript(), proof)


def test_message_counts_are_those_of_the_conversation():
    layout = toy_layout()
    reader = Reader(toy_proof())
    transcript = toy_transcript()
    transcript.absorb("roots", reader.section(64))
    messages = Reader(reader.section(1 << 28))
    ch = VerifierChannel(transcript, messages)
    n = matrix_code(layout.data_end).variables
    with light_grinding():
        assert len(run(ch, Blind(layout), layout, n)) == n
    messages.end()
    assert message_counts(layout, n) == (ch.tape.singles, ch.tape.triples)
    assert len(messages.data) == 16 * (ch.tape.singles + 2 * ch.tape.triples + 1) + 8


def test_an_axis_of_one_and_products_without_a_sum_are_proved():
    c = Circuit()
    axis = DomainAxis("i", 1)
    a, b = (c.tensor(n, 1, (1,), (Digit(unsigned(3)),)) for n in "ab")
    y = c.tensor("y", 1, (1,), (Digit(Range(64)),))
    on = lambda t: View(t, (ONCE, Same("i", 1))).whole()  # noqa: E731
    c.constraint("product", (axis,)).add("y", product(on(a), on(b)) - on(y))
    layout = Layout(c)
    w = Witness(layout)
    for t, v in ((a, 3), (b, 7), (y, 21)):
        w.put(t, np.array([[v]]))
    with light_grinding():
        proof = prove_circuit(layout, w, Transcript("one"), strict=True)
        verify_circuit(layout, Transcript("one"), proof)


# ------------------------------------------------------------------------------------------------ transcript


def test_transcript_follows_its_description():
    def frame(label, data=b""):
        name = label.encode()
        return len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little") + data

    state = blake3(b"zkcert/transcript" + frame("kat")).digest()
    state = blake3(b"zkcert/absorb" + state + frame("label", b"data")).digest()
    stream = blake3(b"zkcert/challenge" + state + frame("c")).digest(length=64)
    words = blake3(stream[32:]).digest(length=32)
    lanes = [int.from_bytes(words[8 * i : 8 * i + 8], "little") & P for i in range(4)]

    t = Transcript("kat")
    t.absorb("label", b"data")
    assert t.challenges("c", 2) == [F(*lanes[:2]), F(*lanes[2:])]
    assert t.state == stream[:32]


KNOWN_ONE = (1002479058261730249, 1247160189485141024)
KNOWN_ARRAY = [
    [1802487424677775852, 843328685326197563, 929989170261915420],
    [1523910323085567538, 159618233711824207, 145751650851980110],
]
KNOWN_INDICES, KNOWN_NONCE = [1, 7, 10, 11, 15], 23
KNOWN_STATE = "b19409a48bbb3a714939ccff0f54018bf2aa6c6581aeb715f5a27b1e912e949b"


def test_transcript_known_answers():
    t = Transcript("known answers")
    t.absorb("a", b"")
    t.absorb("b", b"\x01" * 40)
    one = t.challenge("one")
    many = t.challenge_array("array", 3)
    indices = t.distinct_indices("indices", 5, 4)
    nonce = t.grind(6)
    assert (one.re, one.im) == KNOWN_ONE
    assert many.tolist() == KNOWN_ARRAY
    assert (indices, nonce) == (KNOWN_INDICES, KNOWN_NONCE)
    assert t.state.hex() == KNOWN_STATE


def test_equal_histories_give_equal_challenges_and_others_do_not():
    def history(*items):
        t = Transcript("p")
        for label, data in items:
            t.absorb(label, data)
        return t.challenge("c")

    assert history(("a", b"1"), ("b", b"2")) == history(("a", b"1"), ("b", b"2"))
    distinct = [
        history(("a", b"1"), ("b", b"2")),
        history(("b", b"2"), ("a", b"1")),
        history(("a", b"1b2")),
        history(("a", b"12")),
        history(("a1", b""), ("b", b"2")),
        history(("a", b"1"), ("b", b"2"), ("", b"")),
        Transcript("p").challenge("c"),
        Transcript("p").challenge("d"),
        Transcript("q").challenge("c"),
    ]
    assert len(set(distinct)) == len(distinct)


def test_challenges_advance_the_state_even_if_none_is_drawn():
    t = Transcript("p")
    before = t.state
    assert t.challenges("none", 0) == []
    assert t.state != before


def test_field_elements_of_a_stream_skip_p_and_keep_the_low_bits():
    class Stream:
        def __init__(self, words):
            self.data = b"".join(w.to_bytes(8, "little") for w in words)

        def digest(self, length, seek):
            return self.data[seek : seek + length]

    words = [P, (1 << 64) - 1, 5, (7 << 61) | 9, 0, P - 1, *range(20)]
    with mock.patch("zkcert.core.transcript.blake3", lambda seed: Stream(words)):
        assert xof_field(b"", 4).tolist() == [5, 9, 0, P - 1]


@pytest.mark.parametrize("skipped", [0, 1, 3])
def test_one_challenge_is_the_first_of_many_also_where_p_is_skipped(monkeypatch, skipped):
    """Streams of words P, which are skipped, before the two that are taken."""
    words = [P] * skipped + [5, 9, *range(20)]

    class Stream:
        def digest(self, length, seek=0):
            return b"".join(w.to_bytes(8, "little") for w in words)[seek : seek + length]

    one, many = Transcript("p"), Transcript("p")
    monkeypatch.setattr(Transcript, "_stream", lambda self, label: b"seed")
    monkeypatch.setattr("zkcert.core.transcript.blake3", lambda seed: Stream())
    assert [one.challenge("c")] == many.challenges("c", 1) == [F(5, 9)]


@settings(deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(0, 2**32))
def test_scattered_weights_add_up_where_entries_repeat(index, seed):
    v = np.random.default_rng(seed).integers(0, P, (2, len(index)), np.uint64)
    v[:, 0] = P - 1
    wanted = [F.ZERO] * 5
    for i, weight in zip(index, ff.f_list(v), strict=True):
        if i >= 0:
            wanted[i] = wanted[i] + weight
    assert ff.f_list(scatter(v, np.array(index), 5)) == wanted


@pytest.mark.parametrize("bits", [0, 1, 5, 10])
def test_grinding_finds_what_the_check_accepts(bits):
    a, b, c = (Transcript("grind") for _ in range(3))
    nonce = a.grind(bits)
    assert b.check_grind(nonce, bits)
    assert a.state == b.state
    failing = next(n for n in range(1 << 12) if not c._grind_ok(n, 10))
    assert not c.check_grind(failing, 10)
    assert c.state != Transcript("grind").state  # a bad nonce is absorbed all the same


def test_query_indices_are_distinct_sorted_and_below_the_length():
    t = Transcript("indices")
    for log_n, count in ((3, 8), (12, 120), (20, 135)):
        found = t.distinct_indices("q", count, log_n)
        assert all(a < b for a, b in pairwise(found)) and len(found) == count
        assert found[0] >= 0 and found[-1] < 1 << log_n


# ------------------------------------------------------------------------------------------------ soundness


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(1, 4), Fraction(3, 10), Fraction(1, 2)])
@pytest.mark.parametrize("bits", [1, 40, 87])
def test_queries_for_is_the_smallest_sufficient_number(rate, bits):
    t = queries_for(rate, bits)
    assert ((1 + rate) / 2) ** t <= Fraction(1, 1 << bits) < ((1 + rate) / 2) ** (t - 1)


def test_the_numbers_of_queries_are_those_of_the_formula():
    """Of every shape that any number of entries may get: all rows and both levels."""
    for bits in range(codes.MAX_ROW_BITS + 1):
        for log_n in range(bits + 1, bits + 9):
            for length in ((1 << bits), (1 << bits) + codes.MAX_TAIL):
                if length < 1 << log_n:
                    t = queries_for(Fraction(length, 1 << log_n))
                    assert t == ceil(87 / -log2((1 + length / (1 << log_n)) / 2))
    assert pad_code(1, 1).queries == ceil(87 / -log2((1 + 2 / 16) / 2)) == 105


def test_representative_circuits_have_a_hundred_bits():
    for layout in (
        toy_layout(),
        Certificate(tiny_mlp().plan).close(Fraction(3)),
        Certificate(tiny_cnn(steps=3, batch=5).plan).close(Fraction(3)),
    ):
        assert soundness(layout).bits >= REQUIRED_BITS


def test_every_term_of_the_soundness_table_counts_and_fewer_queries_lower_it(monkeypatch):
    table = soundness(toy_layout())
    assert all(term.work < -REQUIRED_BITS for term in table.terms)
    for bad in table.terms:
        worse = replace(table, terms=tuple(replace(t, error=-50.0) if t is bad else t for t in table.terms))
        assert worse.attempt_bits < 50.1 and worse.bits < 50.1 + bad.grind, bad
    for weakened in ("first", "second"):
        strong = codes.second_code(matrix_code(toy_layout().data_end).row_bits)
        monkeypatch.setattr(codes, "queries_for", lambda rate, bits=60: queries_for(rate, bits))
        matrix_code.cache_clear()
        codes.second_code.cache_clear()
        weak = matrix_code(toy_layout().data_end)
        if weakened == "first":
            monkeypatch.setattr(MatrixCode, "second", strong)
        else:
            weak = replace(weak, queries=queries_for(weak.rate))
        monkeypatch.setattr("verifier.soundness.matrix_code", lambda entries, code=weak: code)
        bits = soundness(toy_layout()).bits
        monkeypatch.undo()
        matrix_code.cache_clear()
        codes.second_code.cache_clear()
        assert bits < table.bits - 12  # short rows leave slack
    monkeypatch.setattr(PadCode, "queries", 70)
    assert soundness(toy_layout()).bits < table.bits - 20


def test_soundness_of_a_large_layout_stays_above_the_bar():
    layout = toy_layout()
    entries = {"digit_count": 1 << 31, "data_end": (1 << 31) + (1 << 22), "table_entries": 1 << 22}
    large = SimpleNamespace(**{**layout.__dict__, **entries})
    assert soundness(large).bits >= REQUIRED_BITS
