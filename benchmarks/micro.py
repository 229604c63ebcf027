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


def test_bind(per_element):
    x = table()
    per_element(lambda: kernels.bind(x, R, F.ZERO), N)


def test_bind_int(per_element):
    x = digits(N)
    per_element(lambda: kernels.bind_int(x, R), N)


def test_eq_levels(per_element):
    per_element(lambda: kernels.eq_levels([R] * 20, N), N)


def test_product_round(per_element):
    x, y = table(), table()
    per_element(lambda: kernels.product_round(None, 0, x, y), N)


def test_product_round_int(per_element):
    x, y = digits(N), table()
    per_element(lambda: kernels.product_round_int(x, y), N)


def test_fraction_layer(per_element):
    p, q = table(), table()
    per_element(lambda: kernels.fraction_layer(p, q), N)


def test_leaf_denominators(per_element):
    x, zero = digits(N), np.zeros(1, np.int64)
    per_element(lambda: kernels.leaf_denominators(x, zero, zero, zero, R), N)


def test_fraction_round(per_element):
    p, q = table(), table()
    (e,) = kernels.eq_levels([R] * 19, N // 2)[-1:]
    per_element(lambda: kernels.fraction_round((p, p), (q, q), e, R), N)


def test_encode_rows(per_element):
    """Per value of the codewords: rows of 2^14 + 137 coefficients at 2^16 points."""
    rows, log_n = 16, 16
    lanes = table(rows * ((1 << 14) + 137)).reshape(2, rows, -1)
    a, b = np.ascontiguousarray(lanes[0]), np.ascontiguousarray(lanes[1])
    per_element(lambda: kernels.encode_rows(a, b, log_n), rows << log_n)


def test_combine_rows(per_element):
    x, w = digits(64, N // 128, 2), table(3 * 64).reshape(2, 3, 64)
    per_element(lambda: kernels.combine_rows(w, x), N)


def test_fold_matrix(per_element):
    x, m = digits(64, 128, 128), table(128).reshape(2, 1, 128)
    per_element(lambda: kernels.fold_matrix(x, m), N)


def test_axpy_outer(per_element):
    w, x = table(), table()
    per_element(lambda: kernels.axpy_outer(w, 0, R, x), N)
