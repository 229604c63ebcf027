"""Compiled prover kernels; see `arith` for their conventions.

numba notices changes only in the file of a kernel itself: after editing `arith`, clear `__pycache__/*.nb?`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zkcert.core.field import F

from .arith import ROWS
from .blake import ColumnHasher, hash_rows
from .blake import first_nonce as first_nonce
from .count import count_entries
from .encode import RowBlock as RowBlock
from .encode import RowEncoder
from .fold import dot_rows, fold_rows, outer, sum_outer
from .grid import FormBinder, grid_sums, pair_sums
from .matrix import combine_digits, fold_matrix, fold_matrix_f
from .memory import empty as empty
from .memory import release as release
from .product import product_round
from .tables import bind
from .tree import fraction_round, leaf_round, new_level, node_round, pair_round, pair_start, parents, upper_level
from .tree import node_constants as node_constants
from .tuples import scale_leaves, tuple_leaves, tuple_parents
from .weigh import weigh


def compiled() -> bool:
    """Whether numba's cache beside this file holds kernels; if not, the first proof compiles for up to a minute."""
    return any(Path(__file__).parent.glob("__pycache__/*.nbi"))


def warm_up() -> None:
    """Call every kernel on tiny arrays, so that all are compiled (and cached)."""
    r, one = F(3, 5), F.ONE
    x = np.arange(128, dtype=np.uint64).reshape(2, 64)
    ints = np.arange(64, dtype=np.int32)
    e = x[:, :32].copy()
    bind(x, r, one)
    product_round(x, x)
    zero = np.zeros(1, np.int64)
    count_entries(ints, zero, zero, zero, zero + 64, 64)
    eq = x[:, :1].copy(), x[:, :2].copy()
    cuts, level, consts = np.array([0, 4]), new_level(32), np.zeros((8, 1, 9), np.uint64)
    upper_level(ints, 4 * cuts, consts[:2])
    node_round(ints, cuts, consts, r, r, eq, level)
    fraction_round(parents(level, 32), 8, 2, 0, r, r, eq)
    leaf_round(ints, cuts, x[:, :4].reshape(2, 2, 2, 1), x[:, :2], eq, level)
    pair_round(level, 2, r, eq)
    pair_start(level, 2, eq)
    tuple_leaves(np.zeros((3, 8), np.int64), r, r, level, 0, 0)
    tuple_parents(level, 8, 4, new_level(8))
    scale_leaves(level, 8, 4, r)
    pair_sums(x.reshape(2, 2, 32), e[:, :4].copy(), e[:, :4].copy())
    products = zero, zero, zero + 1, zero + 1
    for bits in (1, 2):
        grid_sums(ints[None], bits, products, e[:, :1].copy(), e[:, : 64 >> bits].copy())
        FormBinder(x[:, None, None, : 1 << bits]).bind(ints[None], np.empty((2, 1, 32), np.uint64), 0)
    encoder, hasher = RowEncoder(2, 3), ColumnHasher(8, 72, bytes(32))
    block = ints.reshape(8, 8), np.zeros((2, 8, 4), np.uint64), np.zeros((2, ROWS, 0), np.uint64)
    for _ in range(5):
        encoder.absorb(block, hasher)
    encoder.evaluate(block, encoder.plan([0]))
    hash_rows(np.zeros((1, 64), np.uint8), 64)
    for inner in (1, 32):
        rows = ints.reshape(-1, 64 // (2 * inner), inner)
        v = x[:, None, : rows.shape[1]].copy()
        fold_matrix(rows, v)
        fold_matrix(rows.astype(np.int64), v)
        fold_matrix_f(x.reshape(2, *rows.shape).copy(), v)
    combine_digits(x[:, :4].reshape(2, 2, 2).copy(), ints, 16)
    fold_rows(ints, zero[None], x[:, :1, None].copy(), x[:, :1, None].copy(), 16)
    dot_rows(ints, zero, x)
    outer(x, x, 64)
    sum_outer(x[:, :1].copy(), x[:, None].copy(), x[:, None].copy())
    weigh(ints[None, None], np.ones((1, 1), np.int32), np.zeros((1, 1, 64), np.int64))
