"""Compiled prover kernels; see `arith` for their conventions.

numba notices changes only in the file of a kernel itself: after editing `arith`, clear `__pycache__/*.nb?`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zkcert.core.field import F

from .arith import ROWS
from .blake import ColumnHasher, hash_rows
from .count import count_entries
from .encode import RowEncoder
from .matrix import axpy_outer, combine_digits, fold_matrix, fold_matrix_f
from .product import product_round, product_round_int
from .tables import bind, bind_int, eq_levels
from .tree import fraction_layer, fraction_round, leaf_denominators, split_children


def compiled() -> bool:
    """Whether numba's cache beside this file holds kernels; if not, the first proof compiles for up to a minute."""
    return any(Path(__file__).parent.glob("__pycache__/*.nbi"))


def warm_up() -> None:
    """Call every kernel on tiny arrays, so that all are compiled (and cached)."""
    r, one = F(3, 5), F.ONE
    x = np.arange(128, dtype=np.uint64).reshape(2, 64)
    ints = np.arange(64, dtype=np.int32)
    (e,) = eq_levels([r] * 5, 32)[-1:]
    bind(x, r, one)
    bind_int(ints, r)
    product_round(None, 0, x, x)
    product_round(e, 0, x, x)
    product_round(e, 2, x, x)
    product_round_int(ints, x)
    zero = np.zeros(1, np.int64)
    count_entries(ints, zero, zero, zero, zero + 64, 64)
    fraction_layer(x, leaf_denominators(ints, zero, zero, zero, r))
    fraction_round((x, x), split_children(np.repeat(x, 2, axis=1), one), e, r)
    encoder, hasher = RowEncoder(2, 3), ColumnHasher(8, 72, bytes(32))
    block, tail = np.zeros((2, ROWS, 4), np.uint64), np.zeros((2, ROWS, 0), np.uint64)
    for _ in range(5):
        encoder.absorb(block, tail, hasher)
    encoder.evaluate(block, tail, encoder.plan([0]))
    hash_rows(np.zeros((1, 64), np.uint8), 64)
    for inner in (1, 32):
        rows = ints.reshape(-1, 64 // (2 * inner), inner)
        v = x[:, None, : rows.shape[1]].copy()
        fold_matrix(rows, v)
        fold_matrix(rows.astype(np.int64), v)
        fold_matrix_f(x.reshape(2, *rows.shape).copy(), v)
    axpy_outer(np.zeros((2, 64), np.uint64), 0, r, x)
    combine_digits(x[:, :4].reshape(2, 2, 2).copy(), ints, 16)
