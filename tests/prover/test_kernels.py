"""Every kernel against its plain twin, in one piece and cut into many."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3

from prover import kernels
from prover.kernels import arith, encode
from prover.trees import LeafLayer, Leaves
from tests import twins
from zkcert.core import transcript
from zkcert.core.field import F, P, f_array, f_list, fp_from_int

EDGES = np.array([0, 1, 2, P - 1, P - 2, (1 << 32) - 1, 1 << 32, (1 << 60) + 1, (1 << 31) - 1], np.uint64)
LENGTHS = [1, 2, 3, 4, 7, 16, 33, 64, 95, 130]


@pytest.fixture(autouse=True, params=["whole", "pieces"])
def cut(request, monkeypatch):
    """Run each test as one piece, and as many pieces as the number of units allows."""
    if request.param == "whole":
        monkeypatch.setattr(arith, "THREADS", 1)
        return
    monkeypatch.setattr(arith, "THREADS", 3)
    monkeypatch.setattr(arith, "MAX_GRAIN", 1)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def field(rng, *shape, extreme=False):
    """A random F array; `extreme` mixes in values at the edges of the halves and of the field."""
    x = rng.integers(0, P, size=(2, *shape), dtype=np.uint64)
    if extreme:
        x = np.where(rng.random(x.shape) < 0.7, rng.choice(EDGES, size=x.shape), x)
    return x


def scalar(rng):
    return F(*(int(v) for v in rng.integers(0, P, size=2)))


def integers(rng, bits, *shape, dtype):
    limit = 1 << bits
    x, edges = (
        rng.integers(-limit, limit, size=shape),
        rng.choice([0, 1, -1, limit - 1, 1 - limit], size=shape),
    )
    return np.where(rng.random(shape) < 0.3, edges, x).astype(dtype)


def equal(a, b):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == np.uint64


@pytest.mark.parametrize("m", LENGTHS)
def test_bind(rng, m):
    x, r, fill = field(rng, m, extreme=True), scalar(rng), scalar(rng)
    equal(kernels.bind(x, r, fill), twins.bind(x, r, fill))
    equal(kernels.bind(x, F(P - 1, P - 1), F.ONE), twins.bind(x, F(P - 1, P - 1), F.ONE))


@pytest.mark.parametrize("m", [2, 4, 34, 64, 130, 1026])
def test_product_round(rng, m):
    a, b = field(rng, m, extreme=True), field(rng, m, extreme=True)
    assert kernels.product_round(a, b) == twins.product_round(a, b)


def test_product_round_with_extreme_values():
    a = np.full((2, 1400), P - 1, np.uint64)
    assert kernels.product_round(a, a) == twins.product_round(a, a)
    a[:, 1::2] = 0
    assert kernels.product_round(a, a) == twins.product_round(a, a)


def test_product_round_rejects_bad_lengths(rng):
    for m, n in ((3, 3), (4, 2)):
        with pytest.raises(ValueError, match="length"):
            kernels.product_round(field(rng, m), field(rng, n))


@pytest.mark.parametrize("groups, length", [(1, 1), (3, 2), (5, 7), (2, 600)])
@pytest.mark.parametrize("count", [1, 3])
def test_pair_sums(rng, groups, length, count):
    tables = field(rng, 2 * count, 2 * groups * length, extreme=True)
    outer, inner = field(rng, groups, extreme=True), field(rng, length, extreme=True)
    for odd in (0, 1):
        want = twins.pair_sums(tables, outer, inner, odd)
        assert kernels.pair_sums(tables, outer, inner, odd) == want


def test_pair_sums_with_extreme_values():
    tables = np.full((2, 20, 1200), P - 1, np.uint64)
    tables[:, :, 1::2] = 0
    ones = np.full((2, 600), P - 1, np.uint64)
    for outer, inner in ((ones[:, :2], ones[:, :300]), (ones[:, :1], ones)):
        assert kernels.pair_sums(tables, outer, inner) == twins.pair_sums(tables, outer, inner)


def test_pair_sums_rejects_bad_lengths(rng):
    for count, m, groups, inner in ((2, 3, 1, 1), (3, 2, 1, 1), (2, 4, 1, 1), (2, 4, 2, 2)):
        with pytest.raises(ValueError, match="length"):
            kernels.pair_sums(field(rng, count, m), field(rng, groups), field(rng, inner))


MEMBERS = ([0, 1, 1, 2], [1, 1, 2, 2], [1, -3, 1 << 14, 1], [1, 3, 4])


@pytest.mark.parametrize("groups, length", [(1, 1), (4, 3), (3, 5), (2, 300)])
@pytest.mark.parametrize("bits", [1, 2])
def test_grid_sums(rng, groups, length, bits):
    x = integers(rng, 21, 3, (groups * length) << bits, dtype=np.int32)
    outer, inner = field(rng, groups, extreme=True), field(rng, length, extreme=True)
    args = x, bits, tuple(np.array(v, np.int64) for v in MEMBERS), outer, inner
    equal(kernels.grid_sums(*args), twins.grid_sums(*args))


@pytest.mark.parametrize("bits", [1, 2])
def test_grid_sums_with_extreme_values(bits):
    low, high = 1 - (1 << 28), (1 << 28) - 1
    for pattern in ([low, low, low, low], [high, low, low, high], [low, high, high, low]):
        x = np.array([pattern * 40, [high] * 160], np.int32)
        inner = np.full((2, 160 >> bits), P - 1, np.uint64)
        members = tuple(np.array(v, np.int64) for v in ([0, 0, 1], [1, 0, 1], [1, 1, 4], [1, 2, 3]))
        args = x, bits, members, inner[:, :1].copy(), inner
        equal(kernels.grid_sums(*args), twins.grid_sums(*args))


@pytest.mark.parametrize("groups", [1, 5, 130, 300])
@pytest.mark.parametrize("bits", [1, 2])
def test_bound_forms(rng, groups, bits):
    x, coefs = integers(rng, 31, 3, groups << bits, dtype=np.int32), field(rng, 4, 3, 1 << bits, extreme=True)
    coefs[:, 0, 1:] = coefs[:, 1, 0] = 0
    out = field(rng, 4, groups + 3)
    before = out.copy()
    kernels.FormBinder(coefs).bind(x, out, 2)
    equal(out[:, :, 2:-1], twins.bind_forms(x, coefs))
    out[:, :, 2:-1] = before[:, :, 2:-1]
    equal(out, before)


def test_bound_forms_need_room(rng):
    binder = kernels.FormBinder(field(rng, 1, 1, 2))
    for out, position in ((np.zeros((2, 1, 4), np.uint64), 3), (np.zeros((2, 1, 8), np.uint64)[:, :, ::2], 0)):
        with pytest.raises(ValueError, match="range"):
            binder.bind(np.zeros((1, 4), np.int32), out, position)


@pytest.mark.parametrize("most", [kernels.count.MOST, 41])
@pytest.mark.parametrize("starts", [[0], [0, 5, 6, 40], [0, 0, 7, 7, 99]])
def test_count_entries(rng, monkeypatch, starts, most):
    monkeypatch.setattr(kernels.count, "MOST", most)
    x, starts = rng.integers(-3, 9, 100).astype(np.int32), np.array(starts, np.int64)
    sizes = rng.integers(1, 7, len(starts))
    shift, first = rng.integers(-2, 3, len(starts)), np.concatenate([[0], np.cumsum(sizes)[:-1]])
    args = x, starts, shift, first, sizes, int(sizes.sum())
    assert kernels.count_entries(*args).tolist() == twins.count_entries(*args)


def level_of(rng, n):
    """n random fractions in rows longer than that."""
    p, q = (field(rng, n + 3, extreme=True) for _ in range(2))
    return np.concatenate([p, q])


@pytest.mark.parametrize("n", [2, 4, 64, 1024])
def test_parents(rng, n):
    level = level_of(rng, n)
    equal(kernels.parents(level, n)[:, : n // 2], twins.parents(level[:, :n]))


def test_parents_of_extreme_values():
    level = np.full((4, 64), P - 1, np.uint64)
    equal(kernels.parents(level, 64)[:, :32], twins.parents(level))
    level[:2, ::2] = 1
    equal(kernels.parents(level, 64)[:, :32], twins.parents(level))


def eq_pair(rng, count):
    """A factored weight vector of `count` entries and the vector itself."""
    inner = min(count, 128)
    a, b = field(rng, count // inner, extreme=True), field(rng, inner, extreme=True)
    return (a, b), [x * y for x in f_list(a) for y in f_list(b)]


def fraction_term(p0, u, q0, q1):
    return p0 * q1 + u * q0


@pytest.mark.parametrize("half", [1, 2, 8, 128])
def test_fraction_rounds(rng, half):
    """Three rounds: the values, and what is left of the tables after each."""
    m, lam, r, s = 8 * half, scalar(rng), scalar(rng), scalar(rng)
    level = level_of(rng, 2 * m)
    fractions = [f_list(level[i : i + 2, j : j + m]) for i in (0, 2) for j in (0, m)]
    p0, p1, q0, q1 = fractions
    tables = [p0, [a + lam * b for a, b in zip(p1, q1, strict=True)], q0, q1]
    for number, challenge in enumerate((F.ZERO, r, s)):
        if number:
            tables = [twins.bind_top(t, challenge) for t in tables]
        count = 4 * half >> number
        pair, e = eq_pair(rng, count)
        got = kernels.fraction_round(level, m, count, number, lam, challenge, pair)
        assert got == twins.round_sums(e, tables, fraction_term)
        if number:
            left = [f_list(level[i : i + 2, j : j + 2 * count]) for i in (0, 2) for j in (0, m)]
            assert left == tables


def test_fraction_rounds_with_extreme_values():
    top = F(P - 1, P - 1)
    for zero in (False, True):
        level, weights = np.full((4, 1024), P - 1, np.uint64), np.full((2, 256), P - 1, np.uint64)
        if zero:
            level[:, :128] = 0
        tables = [f_list(level[i : i + 2, j : j + 512]) for i in (0, 2) for j in (0, 512)]
        tables[1] = [a + top * b for a, b in zip(tables[1], tables[3], strict=True)]
        pair = np.full((2, 1), P - 1, np.uint64), weights
        e = [top * top] * 256
        assert kernels.fraction_round(level, 512, 256, 0, top, top, pair) == twins.round_sums(e, tables, fraction_term)
        tables = [twins.bind_top(t, top) for t in tables]
        pair = pair[0], weights[:, :128].copy()
        want = twins.round_sums(e[:128], tables, fraction_term)
        assert kernels.fraction_round(level, 512, 128, 1, top, top, pair) == want


@pytest.mark.parametrize("half", [1, 2, 8, 512])
def test_pair_round(rng, half):
    table, r = level_of(rng, 4 * half), scalar(rng)
    pair, e = eq_pair(rng, half)
    tables = [twins.bind_top(f_list(table[i : i + 2, : 4 * half]), r) for i in (0, 2)]
    assert kernels.pair_round(table, half, r, pair) == twins.round_sums(e, tables, lambda a, b: a * b)
    assert [f_list(table[i : i + 2, : 2 * half]) for i in (0, 2)] == tables


def leaves_of(rng, n):
    """Leaves count/(base - x) in several segments, the last of them absent, as plain fractions and as Leaves."""
    count = n - n // 8
    x = integers(rng, 28, count, dtype=np.int32) // 2
    starts = np.unique(np.append(rng.integers(0, count, 5), 0))
    bases = field(rng, len(starts), extreme=True)
    where = np.searchsorted(starts, np.arange(count), side="right") - 1
    q = [a - int(v) for a, v in zip(f_list(bases[:, where]), x, strict=True)]
    fractions = [(F.ONE, v) for v in q] + [(F.ZERO, F.ONE)] * (n - count)
    return Leaves(x, count, starts, bases), fractions


def as_level(fractions):
    return np.concatenate([f_array([p for p, _ in fractions]), f_array([q for _, q in fractions])])


@pytest.mark.parametrize("n", [16, 64, 1024])
def test_levels_and_rounds_from_integers_are_those_of_the_leaves_written_out(rng, n):
    leaves, fractions = leaves_of(rng, n)
    equal(leaves.level(), as_level(fractions))
    first = twins.parents(leaves.level())
    second, third = (kernels.upper_level(leaves.x, *leaves.nodes(streams)) for streams in (2, 4))
    equal(second[:, : n // 4], twins.parents(first))
    equal(third[:, : n // 8], twins.parents(twins.parents(first)))

    lam, r = scalar(rng), scalar(rng)
    want = first.copy()
    for number in range(2):
        half = n // 8 >> number
        pair, _ = eq_pair(rng, half)
        out = kernels.new_level(4 * half) if number else None
        got = kernels.node_round(leaves.x, *leaves.nodes(4 << number), lam, r, pair, out)
        assert got == kernels.fraction_round(want, n // 4, half, number, lam, r, pair)
    for child in range(2):
        equal(out[:, child * 2 * half :][:, : 2 * half], want[:, child * n // 4 :][:, : 2 * half])


@pytest.mark.parametrize("n", [32, 1024])
@pytest.mark.parametrize("k", range(4))
def test_leaf_round(rng, n, k):
    leaves, fractions = leaves_of(rng, n)
    bound, lam = [scalar(rng) for _ in range(k)], scalar(rng)
    layer = LeafLayer(leaves, [scalar(rng) for _ in range(int(n).bit_length() - 2)], lam, F.ZERO, kernels.new_level(0))
    tables = [[p + lam * q for p, q in fractions[i : i + n // 2]] for i in (0, n // 2)]
    for r in bound:
        tables = [twins.bind_top(t, r) for t in tables]
    layer.bound = bound
    half = n >> (k + 2)
    pair, e = eq_pair(rng, half)
    out = kernels.new_level(2 * half)
    for table in (None, out):
        got = kernels.leaf_round(leaves.x, *layer._constants(2), pair, table)
        assert got == twins.round_sums(e, tables, lambda a, b: a * b)
    assert [f_list(out[i : i + 2, : 2 * half]) for i in (0, 2)] == tables


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("n", [1, 7, 128, 300])
def test_tuple_leaves(rng, n, count):
    x, gamma, base = integers(rng, 60, count, n, dtype=np.int64), scalar(rng), scalar(rng)
    x[0, 0], x[-1, -1] = P - 1, 1 - int(P)
    for row in (0, 2):
        out = field(rng, 2 * n + 3).repeat(2, axis=0)
        untouched = out.copy()
        kernels.tuple_leaves(x, gamma, base, out, row, n)
        assert f_list(out[row : row + 2, n : 2 * n]) == twins.tuple_leaves(x, gamma, base)
        out[row : row + 2, n : 2 * n] = untouched[row : row + 2, n : 2 * n]
        equal(out, untouched)


@pytest.mark.parametrize("n", [1, 4, 128, 256])
@pytest.mark.parametrize("missing", [0, 1, 100])
def test_levels_and_rounds_over_pairs_of_leaves(rng, n, missing):
    paired, lam = max(1, n - missing), scalar(rng)
    pairs = level_of(rng, n)
    pairs[2:, paired:n] = np.array([[1], [0]])
    leaves = twins.leaf_pairs(pairs, n, paired)
    out = kernels.new_level(n)
    kernels.tuple_parents(pairs, n, paired, out)
    equal(out[:, :n], twins.parents(as_level(leaves)))
    kernels.scale_leaves(pairs, n, paired, lam)
    tables = [[p + lam * q for p, q in half] for half in (leaves[:n], leaves[n:])]
    assert [f_list(pairs[i : i + 2, :n]) for i in (0, 2)] == tables
    if n > 1:
        pair, e = eq_pair(rng, n // 2)
        assert kernels.pair_start(pairs, n // 2, pair) == twins.round_sums(e, tables, lambda a, b: a * b)


ENCODINGS = [(0, 3, 4, 0), (1, 4, 8, 3), (2, 4, 12, 0), (3, 5, 20, 13), (5, 8, 24, 70), (6, 7, 200, 9), (10, 11, 20, 5)]


@pytest.mark.parametrize("tile_bits, query_bits", [(2, (1, 3)), (None, encode.QUERY_BITS), (13, (9, 12))])
@pytest.mark.parametrize("log_width, log_n, rows, tail", ENCODINGS)
def test_encoded_rows_evaluated_and_hashed(rng, log_width, log_n, rows, tail, tile_bits, query_bits):
    width, blocks, n = 1 << log_width, -(-rows // arith.ROWS), 1 << log_n
    x = field(rng, rows, width + tail, extreme=True)
    first = rng.integers(
        0, arith.ROWS + 1, blocks
    )  # rows of small integers, as X comes, before those of field elements
    for b in range(blocks):
        part = x[:, arith.ROWS * b : arith.ROWS * b + first[b], :width]
        part[:] = fp_from_int(integers(rng, 31, *part.shape, dtype=np.int64))
    expected = twins.encode_rows(x, log_n)  # (n, 2, rows)
    key = bytes(range(32))
    encoder = kernels.RowEncoder(log_width, log_n, tile_bits=tile_bits, query_bits=query_bits)
    hasher = kernels.ColumnHasher(n, rows, key)
    positions = sorted(rng.choice(n, min(n, 20), replace=False).tolist())
    plan, values = encoder.plan(positions), []
    for b in range(blocks):
        part = x[:, arith.ROWS * b : arith.ROWS * (b + 1)]
        data, end = part[:, :, :width], np.ascontiguousarray(part[:, :, width:])
        small = data[:, : first[b]]
        signed = np.where(small > 1 << 60, small - np.uint64(P), small).astype(np.int64)
        ints = np.moveaxis(signed, 0, 2).reshape(-1, 2 * width).astype(np.int32)
        block = ints, np.ascontiguousarray(data[:, first[b] :]), end
        encoder.absorb(block, hasher)
        values.append(encoder.evaluate(block, plan))
    equal(np.concatenate(values, axis=2)[:, :, :rows], expected[positions])
    columns = np.ascontiguousarray(expected.transpose(0, 2, 1)).astype("<u8")
    digests = [blake3(column.tobytes(), key=key).digest() for column in columns]
    assert [d.tobytes() for d in hasher.digests()] == digests


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 128, 1000, 1024])
def test_hash_rows(rng, length):
    for n in (1, 63, 64, 200):
        messages = np.zeros((n, -(-length // 64) * 64), np.uint8)
        messages[:, :length] = rng.integers(0, 256, (n, length))
        expected = [blake3(m[:length].tobytes()).digest() for m in messages]
        assert [d.tobytes() for d in kernels.hash_rows(messages, length)] == expected


@pytest.mark.parametrize("bits", [0, 1, 6, 14])
def test_first_nonce(rng, bits):
    for length in (0, 44, 56):
        prefix = rng.bytes(length)
        nonce = kernels.first_nonce(prefix, bits)
        assert nonce == next(n for n in range(1 << 20) if transcript.nonce_fits(prefix, n, bits))


def test_hash_rows_refuses_what_is_not_one_chunk_padded_with_zeros():
    for shape, length in (((2, 63), 63), ((2, 64), 65), ((2, 128), 64), ((2, 1088), 1030)):
        with pytest.raises(ValueError, match="padded"):
            kernels.hash_rows(np.zeros(shape, np.uint8), length)
    with pytest.raises(ValueError, match="padded"):
        kernels.hash_rows(np.ones((2, 64), np.uint8), 60)


SHAPES = [(1, 1, 1, 1), (2, 3, 4, 1), (3, 2, 5, 6), (1, 2, 3, 16), (2, 3, 8, 40), (2, 1, 1, 70)]


@pytest.mark.parametrize("outer, rows, n, inner", SHAPES)
@pytest.mark.parametrize("dtype, bits", [(np.int32, 31), (np.int64, 45)])
def test_fold_matrix(rng, outer, rows, n, inner, dtype, bits):
    x, v = integers(rng, bits, outer, n, inner, dtype=dtype), field(rng, rows, n, extreme=True)
    equal(kernels.fold_matrix(x, v), twins.fold_matrix(x, v))


@pytest.mark.parametrize("outer, rows, n, inner", SHAPES)
def test_fold_matrix_f(rng, outer, rows, n, inner):
    x, v = field(rng, outer, n, inner, extreme=True), field(rng, rows, n, extreme=True)
    equal(kernels.fold_matrix_f(x, v), twins.fold_matrix_f(x, v))


def test_fold_matrix_with_extreme_values():
    v = np.full((2, 1, 300), P - 1, np.uint64)
    for inner in (1, 17):
        for dtype, limit in ((np.int32, 1 << 31), (np.int64, 1 << 45)):
            for value in (-limit, limit - 1):
                x = np.full((1, 300, inner), value, dtype)
                equal(kernels.fold_matrix(x, v), twins.fold_matrix(x, v))


def test_fold_matrix_beyond_one_tile(rng):
    x, v = integers(rng, 31, 1, 3, 1030, dtype=np.int32), field(rng, 2, 3)
    equal(kernels.fold_matrix(x, v), twins.fold_matrix(x, v))
    y = field(rng, 1, 3, 1030)
    equal(kernels.fold_matrix_f(y, v), twins.fold_matrix_f(y, v))


@pytest.mark.parametrize("m, n, width", [(1, 1, 1), (3, 1, 4), (2, 5, 8), (1, 8, 8), (4, 3, 3), (5, 33, 64)])
def test_outer(rng, m, n, width):
    x, y = field(rng, m, extreme=True), field(rng, n, extreme=True)
    equal(kernels.outer(x, y, width), twins.outer(x, y, width))


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 2, 1), (2, 1, 5), (4, 3, 17)])
def test_sum_outer(rng, m, n, k):
    scale, x, y = (field(rng, *shape, extreme=True) for shape in ((m,), (m, n), (m, k)))
    equal(kernels.sum_outer(scale, x, y), twins.sum_outer(scale, x, y))


def test_outer_rejects_a_long_vector(rng):
    with pytest.raises(ValueError, match="longer"):
        kernels.outer(field(rng, 2), field(rng, 5), 4)


@pytest.mark.parametrize("bits", [1, 22, 24, 25, 31])
@pytest.mark.parametrize(
    "columns, o, rows, inner", [(1, 1, 1, 1), (2, 3, 2, 4), (5, 1, 3, 16), (3, 4, 1, 7), (2, 2, 2, 520)]
)
def test_fold_rows(rng, bits, columns, o, rows, inner):
    x = integers(rng, bits, columns * o * inner + 9, dtype=np.int32)
    starts = rng.permutation(columns * o).reshape(columns, o) * inner + 9
    heads, vec = field(rng, rows, columns, extreme=True), field(rng, rows, o, extreme=True)
    equal(kernels.fold_rows(x, starts, heads, vec, inner), twins.fold_rows(x, starts, heads, vec, inner))


def test_fold_rows_of_many_equal_extremes():
    """More rows than a tile holds, at the limits of the digits and of the limbs; one large digit among small ones."""
    for value in (-(1 << 31), (1 << 31) - 1, 1 << 24, (1 << 24) - 1, -(1 << 24)):
        for coef in (P - 1, (P - 1) // 2, (P + 1) // 2, (1 << 60) - 1, 1 << 59, (1 << 20) - 1, 1 << 19):
            x = np.full(520 * 3, value, np.int32)
            heads, one = np.full((2, 1, 520), coef, np.uint64), np.array([[[1]], [[0]]], np.uint64)
            starts = np.arange(520)[:, None] * 3
            assert kernels.fold_rows(x, starts, heads, one, 3).ravel().tolist() == [520 * value * coef % P] * 6
            x[:-1] = 5
            want = [2600 * coef % P] * 2 + [(519 * 5 + value) * coef % P]
            assert kernels.fold_rows(x, starts, heads, one, 3).ravel().tolist() == want * 2
            v = np.full((2, 512), coef, np.uint64)
            x[:512] = value
            assert kernels.dot_rows(x, np.zeros(2, np.int64), v).ravel().tolist() == [512 * value * coef % P] * 4


@pytest.mark.parametrize("bits", [1, 22, 24, 25, 31])
@pytest.mark.parametrize("count, n", [(1, 1), (3, 2), (2, 5), (7, 64), (2, 512)])
def test_dot_rows(rng, bits, count, n):
    x, v = integers(rng, bits, count * n + 5, dtype=np.int32), field(rng, n, extreme=True)
    starts = rng.permutation(count) * n + 5
    equal(kernels.dot_rows(x, starts, v), twins.dot_rows(x, starts, v))


def test_rows_outside_the_digits_are_refused(rng):
    x, v = np.zeros(16, np.int32), field(rng, 1, 4)
    for start in (-1, 13):
        with pytest.raises(ValueError, match="outside"):
            kernels.dot_rows(x, np.array([0, start]), v[:, 0])
        with pytest.raises(ValueError, match="outside"):
            kernels.fold_rows(x, np.array([[0, start]]), v[:, :, :1], v[:, :, :2], 4)
    with pytest.raises(ValueError, match="too long"):
        kernels.dot_rows(np.zeros(2000, np.int32), np.zeros(1, np.int64), field(rng, 513))


@pytest.mark.parametrize(
    "rows, width, missing", [(1, 1, 0), (1, 4, 3), (3, 5, 0), (20, 7, 9), (2, 300, 100), (9, 3, 5)]
)
@pytest.mark.parametrize("limit, most", [("MAX_ROWS", 8), ("PIECE", 50)])
def test_combine_digits(rng, monkeypatch, rows, width, missing, limit, most):
    monkeypatch.setattr(kernels.matrix, limit, most)
    coefs = field(rng, 2, rows + 1, extreme=True)
    x = integers(rng, 31, 2 * rows * width - missing, dtype=np.int32)
    x.flags.writeable = False
    equal(kernels.combine_digits(coefs, x, width), twins.combine_digits(coefs, x, width))


def test_combine_digits_with_extreme_values():
    coefs = np.full((2, 2, 2048), P - 1, np.uint64)
    for value in (-(1 << 31), (1 << 31) - 1):
        x = np.full(2 * 2048, value, np.int32)
        equal(kernels.combine_digits(coefs, x, 1), twins.combine_digits(coefs, x, 1))


def test_views_and_read_only_arrays(rng):
    x, y, r = field(rng, 40), field(rng, 40), scalar(rng)
    strided, reverse = x[:, ::2], y[:, 19::-1]
    frozen = strided.copy()
    frozen.flags.writeable = False
    for view in (strided, frozen):
        equal(kernels.bind(view, r, F.ONE), twins.bind(strided, r, F.ONE))
        assert kernels.product_round(view, reverse) == twins.product_round(strided, reverse)
    digits = integers(rng, 31, 6, 20, dtype=np.int32)
    for part in (digits.T[None], digits.T[:, :, None], digits[None, ::2, ::-1]):
        v = field(rng, 2, part.shape[1])
        equal(kernels.fold_matrix(part, v), twins.fold_matrix(part, v))


def test_long_ranges_are_cut(rng, monkeypatch):
    x, y, r = field(rng, 1 << 18), field(rng, 1 << 18), scalar(rng)
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(arith, "THREADS", threads)
        results.append((kernels.bind(x, r, F.ZERO), kernels.product_round(x, y)))
    (table, sums), (other_table, other_sums) = results
    equal(table, other_table)
    assert sums == other_sums


def test_the_tile_follows_the_caches(monkeypatch):
    """Between 2^11 and 2^14 points of 256 bytes, whatever the system says of its caches, and if it says nothing."""
    assert encode.cache_bytes(9) == 0
    for sizes, bits in (
        ({}, 11),
        ({2: 1 << 19, 3: 8 * encode.THREADS << 20}, 13),
        ({2: 1 << 21}, 13),
        ({3: 1 << 40}, 14),
    ):
        monkeypatch.setattr(encode, "cache_bytes", lambda level, sizes=sizes: sizes.get(level, 0))
        encode.tiled_bits.cache_clear()
        assert encode.tiled_bits() == bits
    encode.tiled_bits.cache_clear()
