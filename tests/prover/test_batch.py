"""The last sum-check: its messages equal those of the dense weight vector and the dense X, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.argument.batching import run_sums, weight_at
from circuits.argument.claims import Claim, Functional, Span, Term
from circuits.language.constraints import Circuit
from circuits.language.layout import Layout
from circuits.language.tensors import Digit, balanced, ceil_log2, unsigned
from prover import batch, weights
from prover.batch import Batch, Entries
from tests.toys import random_f_array, random_fs
from zkcert.core import field as ff
from zkcert.core.code import MASK_ROWS, MatrixCode, plain_code
from zkcert.core.field import F, P


class DenseBatch:
    """X with its masking rows and W as whole vectors of 2^variables entries."""

    def __init__(self, layout, x, masks, claims, weights, code):
        self.x = np.zeros((2, 1 << code.variables), np.uint64)
        self.x[:, : len(x)] = ff.f_from_fp(ff.fp_from_int(x.astype(np.int64)))
        first = 2 * code.width * code.mask_row
        self.x[0, first : first + masks.size] = masks.transpose(1, 2, 0).ravel()
        self.w = np.zeros_like(self.x)
        self.w[:, : layout.data_end] = dense_weights(layout, claims, weights)

    def round(self):
        (x0, x1), (w0, w1) = ((v[:, ::2], v[:, 1::2]) for v in (self.x, self.w))
        return ff.f_dot(x0, w0), ff.f_dot(ff.f_sub(x1, x0), ff.f_sub(w1, w0))

    def bind(self, r):
        self.x, self.w = (
            ff.f_add(v[:, ::2], ff.f_mul_scalar(ff.f_sub(v[:, 1::2], v[:, ::2]), r)) for v in (self.x, self.w)
        )


def dense_weights(layout, claims, weights):
    """sum_j weights[j] functional_j as a vector (2, data_end)."""
    w = np.zeros((2, layout.data_end), np.uint64)
    for claim, weight in zip(claims, weights, strict=True):
        for span in claim.functional.spans:
            part = w[:, span.start : span.start + span.count]
            eq = ff.eq_table(span.point)[:, : span.count]
            part[...] = ff.f_add(part, ff.f_mul_scalar(eq, weight))
        for term in claim.functional.terms:
            place = layout.places[term.tensor]
            for b, block in enumerate(place.blocks):
                base = ff.f_array([weight])
                for axis, (start, bits) in enumerate(block.axes, 1):
                    vec = term.vecs[axis][:, start : start + (1 << bits)]
                    padded = np.zeros((2, 1 << bits), np.uint64)
                    padded[:, : vec.shape[1]] = vec
                    base = ff.f_mul(base[:, :, None], padded[:, None, :]).reshape(2, -1)
                for d, coef in term.coefs.items():
                    for u in range(term.tensor.unroll):
                        at = int(place.positions[b][d, u])
                        part = w[:, at : at + base.shape[1]]
                        part[...] = ff.f_add(part, ff.f_mul_scalar(base, coef * ff.f_item(term.vecs[0], u)))
    return w


DIGITS = [
    (Digit(unsigned(3)),),
    (Digit(unsigned(3)), Digit(balanced(5), 3)),
    tuple(Digit(balanced(4)) for _ in range(3)),
]


def random_layout(rng):
    """Tensors with and without inner axes, unrolled, cut into blocks or padded; long columns and single entries."""
    c = Circuit()
    for i in range(int(rng.integers(1, 9))):
        shape = [int(n) for n in rng.integers(1, 12, rng.integers(0, 4))]
        c.tensor(f"t{i}", int(rng.integers(1, 5)), shape, DIGITS[int(rng.integers(3))])
    return Layout(c, smallest_cut=int(rng.choice([2, 1 << 6, 1 << 12])))


def random_claims(layout, rng):
    """Terms that share vectors, digits or nothing; tensors without claims; spans over all digits or parts of them."""
    claims = []
    for t in layout.circuit.tensors:
        shared = tuple(random_f_array(rng, size) for size in t.sizes)
        for _ in range(int(rng.integers(0, 4))):
            vecs = tuple(v if rng.random() < 0.5 else random_f_array(rng, v.shape[1]) for v in shared)
            digits = rng.permutation(len(t.digits))[: int(rng.integers(1, len(t.digits) + 1))].tolist()
            claims.append(Functional((Term(t, dict(zip(digits, random_fs(rng, len(digits)), strict=True)), vecs),)))
    longest = max(block.bits for place in layout.places.values() for block in place.blocks)
    step = 1 << longest + int(rng.integers(0, 3))
    starts = [0] if rng.random() < 0.3 else range(0, layout.digit_count, step)
    counts = [layout.digit_count] if len(starts) == 1 else [min(step, layout.digit_count - s) for s in starts]
    runs = [*zip(starts, counts, strict=True), (layout.multiplicity_start, layout.table_entries)]
    spans = [Span(start, count, tuple(random_fs(rng, ceil_log2(count)))) for start, count in runs]
    claims += [Functional(spans=(span,)) for span in spans]
    return [Claim(str(i), f, 0) for i, f in enumerate(claims)]


def setup(seed):
    rng = np.random.default_rng(seed)
    layout = random_layout(rng)
    claims = random_claims(layout, rng)
    row_bits = int(rng.integers(1, 6))
    data_rows = -(-layout.data_end // (2 << row_bits))
    code = MatrixCode(row_bits, (data_rows,), row_bits + 2, 8, plain_code(3, row_bits, 128))
    x = rng.integers(-(1 << 22), 1 << 22, layout.data_end).astype(np.int32)
    x[rng.integers(0, len(x), 3)] = rng.choice([-(1 << 31), (1 << 31) - 1, 1 << 25], 3)
    x[layout.digit_count : layout.multiplicity_start] = 0
    masks = random_f_array(rng, MASK_ROWS, code.width)
    return layout, x, masks, claims, random_fs(rng, len(claims)), code


@pytest.mark.parametrize("inner, row, multiplicities", [(4, 9, 16), (2, 1, 3), (1, 2, 2), (3, 0, 5), (12, 9, 4)])
@pytest.mark.parametrize("seed", range(8))
def test_messages_are_those_of_the_dense_sum_check(monkeypatch, seed, inner, row, multiplicities):
    monkeypatch.setattr(weights, "INNER_BITS", inner)
    monkeypatch.setattr(batch, "LONGEST_ROW_BITS", row)
    monkeypatch.setattr("circuits.language.layout.MULTIPLICITY_BLOCK", multiplicities)
    layout, *rest, code = setup(seed)
    prover, plain = Batch(layout, *rest, code), DenseBatch(layout, *rest, code)
    z = random_fs(np.random.default_rng(100 + seed), code.variables)
    for r in reversed(z):
        assert prover.round() == plain.round()
        prover.bind(r)
        plain.bind(r)
    assert prover.finals() == [(ff.f_item(plain.x, 0), ff.f_item(plain.w, 0))]
    assert prover.finals()[0][1] == weight_at(layout, rest[2], rest[3], z)
    assert prover.entries.index.tolist() == [0] and not prover.waiting


def test_groups_hold_the_combined_weights():
    for seed in range(5):
        layout, _, _, claims, coefs, _ = setup(seed)
        w = np.zeros((2, layout.data_end), np.uint64)
        for group in weights.group_weights(layout, claims, coefs):
            for head, outer, inner in group.terms.values():
                base = ff.f_mul(outer[:, :, None], inner[:, None, :])
                for c, rows in enumerate(group.rows()):
                    for o, start in enumerate(rows.tolist()):
                        part = w[:, start : start + inner.shape[1]]
                        part[...] = ff.f_add(part, ff.f_mul(base[:, o], head[:, c : c + 1]))
        assert np.array_equal(w, dense_weights(layout, claims, coefs))


def test_claims_with_common_vectors_share_a_product():
    c = Circuit()
    t = c.tensor("t", 2, (4, 8), DIGITS[1])
    layout, rng = Layout(c), np.random.default_rng(1)
    vecs = tuple(random_f_array(rng, size) for size in t.sizes)
    terms = [Term(t, {0: F(2)}, vecs), Term(t, {1: F(3)}, (random_f_array(rng, 2), *vecs[1:]))]
    claims = [Claim("", Functional((term,)), 0) for term in terms]
    (group,) = weights.group_weights(layout, claims, random_fs(rng, 2))
    assert len(group.terms) == 1


@pytest.mark.parametrize(
    "axis_bits, columns, expected",
    [((), 1, 0), ((3,), 9, 0), ((1, 2), 9, 0), ((4,), 9, 4), ((9, 9, 4), 10, 13), ((3, 6, 10), 18, 10), ((9, 8), 1, 8)],
)
def test_the_inner_index_consists_of_whole_axes(axis_bits, columns, expected):
    assert weights.inner_bits(axis_bits, columns) == expected


def test_entries_get_their_neighbours_and_keep_their_order():
    entries = Entries()
    one = ff.f_array([F(i) for i in (1, 2, 3)])
    entries.add(np.array([9, 4, 5]), one, one)
    entries.complete()
    assert entries.index.tolist() == [4, 5, 8, 9]
    assert entries.x[0].tolist() == [2, 3, 0, 1]
    entries.bind(F(2))
    assert entries.index.tolist() == [2, 4]
    assert entries.x[0].tolist() == [4, 2]


def test_run_sums_are_sums_of_runs():
    rng = np.random.default_rng(2)
    x = random_f_array(rng, 11)
    x[:, 4:] = P - 1
    values = ff.f_list(x)
    want = [sum(run, F.ZERO) for run in (values[:1], values[1:4], values[4:])]
    assert ff.f_list(run_sums(x, [1, 3, 7])) == want
