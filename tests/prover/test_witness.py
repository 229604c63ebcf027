"""The witness in its places in X: blocks, rows, digits; execution piece by piece."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.language.constraints import Circuit
from circuits.language.layout import SMALLEST_CUT, Layout, axis_blocks, column_blocks
from circuits.language.tensors import Digit, Range, balanced, radix, unsigned
from prover.execution import workers
from prover.execution.arithmetic import MATMUL_TERMS, exact_matmul, floor_limbs
from prover.execution.run import execute, fill_threshold
from prover.execution.witness import Witness
from prover.oracle import count_multiplicities
from tests.builders import Digits, Graph, random_case, tiny_cnn, violations
from zkcert.errors import RangeOverflow, UnusableInput

SHAPES = [(), (1,), (5,), (3, 5), (6, 9, 7)]
DIGITS = (Digit(balanced(4)), Digit(unsigned(3), 4), Digit(Range(6, -3), 7))


def witness_of(shape, unroll=2, smallest_cut=1):
    circuit = Circuit()
    t = circuit.tensor("t", unroll, shape, DIGITS)
    circuit.tensor("other", 3, (4,), radix(unsigned(2)))
    return t, Witness(Layout(circuit, smallest_cut))


def values_of(t, rng):
    lo, hi = t.bounds()
    v = rng.integers(lo, hi + 1, t.sizes)
    v.flat[0], v.flat[-1] = lo, hi
    return v


@pytest.mark.parametrize("size", range(1, 200))
def test_axis_blocks_tile_the_axis_and_waste_little(size):
    blocks = axis_blocks(size)
    assert [start for start, _ in blocks] == [sum(1 << bits for _, bits in blocks[:i]) for i in range(len(blocks))]
    end = blocks[-1][0] + (1 << blocks[-1][1])
    assert size <= end <= size + size // 16
    assert [bits for _, bits in blocks] == sorted((bits for _, bits in blocks), reverse=True)
    assert all(2 * (size - start) > 1 << bits for start, bits in blocks)  # half a block would not do


def test_short_columns_are_padded_and_long_ones_cut():
    circuit = Circuit()
    long = circuit.tensor("long", 1, (600, 6), DIGITS)
    short = circuit.tensor("short", 9, (500, 5), DIGITS)
    assert 1024 * 8 >= SMALLEST_CUT == 512 * 8
    assert [b.axes for b in column_blocks(short.shape)] == [(a, b) for a in ((0, 9),) for b in ((0, 2), (4, 0))]
    assert [b.axes for b in column_blocks(short.shape, SMALLEST_CUT + 1)] == [((0, 9), (0, 3))]
    assert sum(1 << b.bits for b in column_blocks(long.shape)) == (512 + 64 + 32) * 6


@pytest.mark.parametrize("cut", [1, SMALLEST_CUT])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_put_is_read_in_every_way(shape, cut):
    t, w = witness_of(shape, smallest_cut=cut)
    want = values_of(t, np.random.default_rng(1))
    w.put(t, want.astype(object))
    assert np.array_equal(w.value(t), want)
    x = w.x.copy()
    w.x[:] = 0
    for u in range(t.unroll):
        w.put(t, want[u], u)
    assert np.array_equal(w.x, x)
    parts = [None] if not shape else [None, *(slice(a, b) for a in range(shape[0]) for b in range(a + 1, shape[0] + 1))]
    for index in (None, 0, 1):
        for rows in parts:
            at = (slice(None) if index is None else index, slice(None) if rows is None else rows)[: 1 + bool(shape)]
            assert np.array_equal(w.value(t, index, rows), want[at])
            for d in range(len(DIGITS)):
                assert np.array_equal(w.digit(t, d, index, rows), w.array(t)[d][at])
    w.x[:] = 0
    for rows in parts[1:]:
        w.put(t, want[1][rows], 1, rows)
        assert np.array_equal(w.value(t, 1, rows), want[1][rows]) and not w.value(t, 0).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_digits_have_places_of_their_own_and_padding_stays_zero(shape):
    t, w = witness_of(shape)
    for d in range(len(DIGITS)):
        w.write(t, d, np.full(t.sizes, d + 1))
    used = np.bincount(w.x[: w.layout.digit_count], minlength=4)
    assert used[1:].tolist() == [int(np.prod(t.sizes))] * 3
    assert not w.x[w.layout.digit_count :].any()


@pytest.mark.parametrize("kind", [np.int64, object])
@pytest.mark.parametrize("excess", [-1, 1])
def test_values_without_digits_are_refused(excess, kind):
    t, w = witness_of((3, 5))
    lo, hi = t.bounds()
    v = np.zeros(t.shape, kind)
    v[2, 4] = hi + 1 if excess > 0 else lo - 1
    with pytest.raises(RangeOverflow, match="t"):
        w.put(t, v, 1)


@pytest.mark.parametrize("seed", [4, 15, 17])
@pytest.mark.parametrize(("piece", "cut"), [(1, 1), (20, SMALLEST_CUT), (50, 1)])
def test_execution_in_pieces_and_blocks_is_the_same(seed, piece, cut, monkeypatch):
    case = random_case(seed, steps=2)
    certificate, w, trace = case.run()
    monkeypatch.setattr(workers, "PIECE", piece)
    other = Certificate(case.plan)
    other.close(Fraction(30), smallest_cut=cut)
    again, found = execute(other, case.samples, case.randomness)
    fill_threshold(other, again, found)
    assert found == trace
    for a, b in zip(certificate.circuit.tensors, other.circuit.tensors, strict=True):
        assert np.array_equal(w.array(a), again.array(b)), a.name


def test_an_overflow_in_one_piece_is_raised(monkeypatch):
    monkeypatch.setattr(workers, "PIECE", 1)
    with pytest.raises(RangeOverflow, match="conv2d0 output"):
        tiny_cnn_with_large_weights().execute()


def tiny_cnn_with_large_weights():
    g = Graph(np.random.default_rng(0), [2, 5, 6]).conv(3)
    g.params["conv2d0.weight"][:] = 15
    g.spec.update(mean=[0.0] * 2, std=[1 / 64] * 2)
    return g.relu().flatten().linear(3).case()


@pytest.mark.parametrize("terms", [1, 7, MATMUL_TERMS, MATMUL_TERMS + 1])
def test_contractions_of_extreme_digits_are_exact(terms):
    rng = np.random.default_rng(terms)
    a = [np.full((2, terms), -(1 << 21)), rng.integers(-(1 << 21), 1 << 21, (2, terms))]
    b = [np.full((terms, 3), -(1 << 21)), rng.integers(-(1 << 14), 1 << 14, (terms, 3))]
    a[0][1], b[0][:, 1] = (1 << 21) - 1, (1 << 21) - 1
    want = [0, 0, 0]
    for i in range(2):
        for j in range(2):
            want[i + j] = want[i + j] + a[i].astype(object) @ b[j].astype(object)
    got = exact_matmul([x.astype(float) for x in a], [x.astype(float) for x in b])
    assert [x.tolist() for x in got] == [np.asarray(x).tolist() for x in want]


@pytest.mark.parametrize("bits", [32, 40])
def test_quotients_and_remainders_are_those_of_python(bits):
    rng = np.random.default_rng(bits)
    limbs = [rng.integers(-(1 << 51), 1 << 51, 200) for _ in range(2)] + [rng.integers(-(1 << 28), 1 << 28, 200)]
    whole = sum(x.astype(object) << 22 * k for k, x in enumerate(limbs)) + (1 << (bits - 1))
    quotient, remainder = floor_limbs(limbs, 1 << (bits - 1), bits, "here")
    assert quotient.tolist() == (whole >> bits).tolist()
    assert remainder.tolist() == (whole & ((1 << bits) - 1)).tolist()


def test_a_large_update_has_two_remainder_digits():
    """One table of 2^10 D entries replaces two where there are many updates."""
    g = Graph(np.random.default_rng(1), [1, 16, 16]).flatten().linear(9).relu().linear(3)
    for divisor, count in ((1, 2), (2, 3)):
        certificate, w, _ = g.case(divisor=divisor, batch=2, rho=Fraction(1, 1000)).run()
        remainder = certificate.parameters[-2].run_update.remainder
        assert len(remainder.digits) == count and remainder.bounds() == (0, (divisor << 32) - 1)
        assert violations(certificate.circuit, w) == []


def test_multiplicities_count_what_lies_in_its_table():
    w = tiny_cnn().run()[1]
    t = w.circuit.tensors[-1]
    Digits(w, t)[0] = -1  # in no table
    count_multiplicities(w.layout, w.x)
    want, layout = [np.zeros(size, int) for size in w.layout.tables], w.layout
    for seg in layout.segments:
        for value in w.x[seg.start : seg.stop].tolist():
            if 0 <= value + seg.shift < layout.tables[seg.cls]:
                want[seg.cls][value + seg.shift] += 1
    assert np.array_equal(w.x[layout.multiplicity_start :], np.concatenate(want))
    before = w.x.copy()
    count_multiplicities(w.layout, w.x)
    assert np.array_equal(w.x, before)


def test_a_multiplicity_beyond_int32_is_refused(monkeypatch):
    _, w = witness_of((3,))
    counts = np.full(w.layout.table_entries, 1 << 31)
    monkeypatch.setattr("prover.kernels.count_entries", lambda *args: counts)
    with pytest.raises(UnusableInput, match="equal digits"):
        count_multiplicities(w.layout, w.x)
