"""Nanoseconds per element of the prover's kernels: `pytest benchmarks/micro.py` (needs pytest-benchmark).

Five rounds each on tables of about 2^20 entries, after a call that compiles. Printed, and kept in `extra_info` of
`--benchmark-json FILE`: nanoseconds per element in the best round, all threads working together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from prover import kernels
from zkcert.core import field as ff
from zkcert.core.field import F

pytest.importorskip("pytest_benchmark")

N = 1 << 20
R = F(123456789, 987654321)


def table(count: int = N) -> np.ndarray:
    """Random field elements (2, count)."""
    return np.random.default_rng(0).integers(0, ff.P, (2, count), np.uint64)


def digits(*shape: int) -> np.ndarray:
    """22-bit digits, int32."""
    return np.random.default_rng(1).integers(-(1 << 21), 1 << 21, shape).astype(np.int32)


@pytest.fixture
def per_element(benchmark, capsys):
    """Measure `call`, which goes over so many elements."""

    def run(call: Callable[[], object], elements: int) -> None:
        benchmark.pedantic(call, rounds=5, warmup_rounds=1)
        best = benchmark.stats.stats.min / elements * 1e9
        benchmark.extra_info["ns_per_element"] = round(best, 3)
        with capsys.disabled():
            print(f"\n{benchmark.name.removeprefix('test_'):<24}{best:8.2f} ns per element", end="")

    return run


def lengths(n: int) -> np.ndarray:
    """The cuts of one segment of n entries."""
    return np.array([0, n])


def test_bind(per_element):
    x = table()
    per_element(lambda: kernels.bind(x, R, F.ZERO), N)


def test_product_round(per_element):
    x, y = table(), table()
    per_element(lambda: kernels.product_round(x, y), N)


def test_pair_sums(per_element):
    x, outer, inner = table(2 * N).reshape(2, 2, N), table(N >> 10), table(1 << 9)
    per_element(lambda: kernels.pair_sums(x, outer, inner), N)


def test_grid_sums(per_element):
    """Per group of four entries of two digits with three products."""
    x, outer, inner = digits(2, 4 * N), table(N >> 9), table(1 << 9)
    members = tuple(np.array(v) for v in ([0, 0, 1], [0, 1, 1], [1, 2, 3], [3]))
    per_element(lambda: kernels.grid_sums(x, 2, members, outer, inner), N)


def test_bound_forms(per_element):
    """Per group of four entries of two digits."""
    x, out = digits(2, 4 * N), np.empty((2, 1, N), np.uint64)
    binder = kernels.FormBinder(table(8).reshape(2, 1, 2, 4))
    per_element(lambda: binder.bind(x, out, 0), N)


def test_count_entries(per_element):
    """More digits than elsewhere: each thread clears a table of 2^22 counters."""
    x, zero = digits(16 * N), np.zeros(1, np.int64)
    per_element(lambda: kernels.count_entries(x, zero, zero + (1 << 21), zero, zero + (1 << 22), 1 << 22), 16 * N)


@pytest.mark.parametrize("streams", [2, 4])
def test_upper_level(per_element, streams):
    """Per digit: the second and the third level of a tree."""
    x, consts = digits(N), np.random.default_rng(0).integers(0, ff.P, (streams, 1, 9), np.uint64)
    per_element(lambda: kernels.upper_level(x, lengths(N // (2 * streams)), consts), N)


def test_parents(per_element):
    level = np.concatenate([table(), table()])
    per_element(lambda: kernels.parents(level, N), N)


def test_fraction_round(per_element):
    """Per entry of the level, the second round."""
    level, eq = np.concatenate([table(), table()]), (table(N >> 13), table(1 << 10))
    per_element(lambda: kernels.fraction_round(level, N // 2, N // 8, 1, R, R, eq), N)


def test_leaf_round(per_element):
    """Per digit, the first round."""
    x, eq = digits(N), (table(N >> 12), table(1 << 10))
    consts, weights = table(4).reshape(2, 2, 2, 1), table(1)
    per_element(lambda: kernels.leaf_round(x, lengths(N // 4), consts, weights, eq, None), N)


def test_tuple_leaves(per_element):
    """Per tuple of five components, on one thread."""
    x, out = np.random.default_rng(1).integers(-(1 << 40), 1 << 40, (5, N)), kernels.new_level(N)
    per_element(lambda: kernels.tuple_leaves(x, R, R, out, 0, 0), N)


def test_tuple_parents(per_element):
    """Per tuple: the first level over the leaves."""
    pairs, out = np.concatenate([table(N // 2), table(N // 2)]), kernels.new_level(N // 2)
    per_element(lambda: kernels.tuple_parents(pairs, N // 2, N // 2, out), N)


def test_pair_start(per_element):
    """Per tuple, the first round of its layer."""
    pairs, eq = np.concatenate([table(N // 2), table(N // 2)]), (table(N >> 12), table(1 << 10))
    per_element(lambda: kernels.pair_start(pairs, N // 4, eq), N)


def test_encoded_rows(per_element):
    """Per value of the codewords, hashing included: rows of 2^14 digits' coefficients at 2^15 points."""
    log_width, log_n = 14, 15
    none = np.zeros((2, 0, 1 << log_width), np.uint64), np.zeros((2, 0, 0), np.uint64)
    block = digits(kernels.ROWS, 2 << log_width), *none
    encoder, hasher = kernels.RowEncoder(log_width, log_n), kernels.ColumnHasher(1 << log_n, 1 << 10, bytes(32))
    per_element(lambda: encoder.absorb(block, hasher), kernels.ROWS << log_n)


def test_queried_points(per_element):
    """Per digit: values of rows of 2^18 coefficients at 250 of 2^19 points."""
    log_width, log_n = 18, 19
    none = np.zeros((2, 0, 1 << log_width), np.uint64), np.zeros((2, 0, 0), np.uint64)
    block = digits(kernels.ROWS, 2 << log_width), *none
    encoder = kernels.RowEncoder(log_width, log_n)
    plan = encoder.plan(np.linspace(0, (1 << log_n) - 1, 250).astype(int).tolist())
    per_element(lambda: encoder.evaluate(block, plan), block[0].size)


def test_weigh(per_element):
    """Per digit: ten sums with weights, as for five primes."""
    x, weights, out = digits(4, 512, 512), digits(10, 512), np.zeros((10, 4, 512), np.int64)
    per_element(lambda: kernels.weigh(x, weights, out), x.size)


def test_combine_digits(per_element):
    x, w = digits(N), table(2 * 64).reshape(2, 2, 64)
    per_element(lambda: kernels.combine_digits(w, x, N // 128), N)


def test_fold_matrix(per_element):
    x, m = digits(64, 128, 128), table(128).reshape(2, 1, 128)
    per_element(lambda: kernels.fold_matrix(x, m), N)


def test_fold_rows(per_element):
    """On one thread."""
    x, starts = digits(N), np.arange(N >> 9)[:, None] << 9
    heads, outer = table(N >> 9).reshape(2, 1, -1), table(1).reshape(2, 1, 1)
    per_element(lambda: kernels.fold_rows(x, starts, heads, outer, 1 << 9), N)


def test_dot_rows(per_element):
    x, starts, v = digits(N), np.arange(N >> 9) << 9, table(1 << 9)
    per_element(lambda: kernels.dot_rows(x, starts, v), N)
