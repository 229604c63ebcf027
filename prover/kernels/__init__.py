"""Compiled prover kernels; see `arith` for their conventions.

numba notices changes only in the file of a kernel itself: after editing `arith`, clear `__pycache__/*.nb?`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zkcert.core.field import F

from .count import count_entries
from .encode import encode_rows
from .fold import dot_rows, fold_rows, outer, sum_outer
from .matrix import combine_rows, fold_matrix, fold_matrix_f
from .product import product_round
from .tables import bind, eq_levels
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
    product_round(None, 0, x, x)
    product_round(e, 0, x, x)
    product_round(e, 2, x, x)
    zero = np.zeros(1, np.int64)
    count_entries(ints, zero, zero, zero, zero + 64, 64)
    fraction_layer(x, leaf_denominators(ints, zero, zero, zero, r))
    fraction_round((x, x), split_children(np.repeat(x, 2, axis=1), one), e, r)
    encode_rows(np.ascontiguousarray(x.reshape(32, 4)), np.ascontiguousarray(x.reshape(32, 4)), 4)
    for inner in (1, 32):
        rows = ints.reshape(-1, 64 // (2 * inner), inner)
        v = x[:, None, : rows.shape[1]].copy()
        fold_matrix(rows, v)
        fold_matrix(rows.astype(np.int64), v)
        fold_matrix_f(x.reshape(2, *rows.shape).copy(), v)
    fold_rows(ints, zero[None], x[:, :1, None].copy(), x[:, :1, None].copy(), 16)
    dot_rows(ints, zero, x)
    outer(x, x, 64)
    sum_outer(x[:, :1].copy(), x[:, None].copy(), x[:, None].copy())
    combine_rows(x[:, None, :4].copy(), ints.reshape(4, 8, 2))
    combine_rows(x[:, None, :4].copy(), x[0].reshape(4, 8, 2).copy())
