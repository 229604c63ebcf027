"""What prover and verifier of a matrix opening share: the row weights and the leaf format.

Row r of the matrix is the polynomial with coefficients ``M[r, 0..length)``; leaf j hashes the values of all rows at
``w^j``, in blocks of ROW_BLOCK rows: the real lanes of a block, then its imaginary lanes, as little-endian u64.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from . import field as ff
from .code import MatrixCode
from .field import F
from .transcript import Transcript

U64 = NDArray[np.uint64]
ROW_BLOCK = 64
LEAF_PREFIX = b"zkcert/matrix-column"


def split_point(code: MatrixCode, z: list[F]) -> tuple[list[F], list[F], F]:
    """(row point, column point, real/imaginary coordinate) of an evaluation point."""
    r = code.row_variables
    return z[:r], z[r : r + code.row_bits], z[-1]


def combination_weights(transcript: Transcript, code: MatrixCode, z: list[F]) -> U64:
    """Weights (2, 3, rows): independent random ones (proximity), eq(z_row, .), eq(conj z_row, .)."""
    row, _, _ = split_point(code, z)
    out = np.empty((2, 3, code.rows), np.uint64)
    out[:, 0] = transcript.challenge_array("proximity", code.rows)
    out[:, 1] = ff.eq_table(row)[:, : code.rows]
    out[:, 2] = ff.f_conj(out[:, 1])
    return out


def column_leaf(index: int, column: U64) -> bytes:
    """Digest of one column, (2, rows) canonical."""
    h = blake3(LEAF_PREFIX + index.to_bytes(8, "little"))
    for start in range(0, column.shape[1], ROW_BLOCK):
        h.update(np.ascontiguousarray(column[:, start : start + ROW_BLOCK]).astype("<u8").tobytes())
    return h.digest()


def packed_evaluation(code: MatrixCode, rows: U64, z: list[F]) -> F:
    """X~(z) from the combined rows (2, 3, length): the packed H at z' and at conj z' give both halves."""
    _, col, z0 = split_point(code, z)
    eq = ff.eq_table(col)
    h = ff.f_dot(rows[:, 1, : code.width], eq)
    h_bar = ff.f_dot(rows[:, 2, : code.width], ff.f_conj(eq)).conj()
    half = F(2).inv()
    real, imag = (h + h_bar) * half, (h - h_bar) * half * F(0, 1).inv()
    return (1 - z0) * real + z0 * imag
