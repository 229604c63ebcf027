"""What prover and verifier of a matrix opening share: points, leaves, row weights and the claims on the combined rows.

Row r of the matrix is the polynomial with coefficients ``M[r, 0..length)``. Position j of the Merkle tree belongs to
the point ``w^rev(j)``, rev reversing the log_n bits; its leaf is the keyed hash of the values of all rows there, 16
bytes each, exactly as they stand in an opening.

The three combined rows v_1, v_2, v_3 are not sent: their first 2^k coefficients are committed with a second matrix, and
one sum-check shows, for the random combination of `Claims`, what the columns and the value say about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from . import field as ff
from .code import COMBINED_ROWS, MatrixCode, SecondCode
from .field import F
from .transcript import Transcript

U64 = NDArray[np.uint64]
COLUMN_KEY = blake3(b"zkcert/matrix-column").digest()
MATRIX_TREE = b"matrix"
SECOND_TREE = b"second"


def split_point(code: MatrixCode, z: list[F]) -> tuple[list[F], list[F], F]:
    """(row point, column point, real/imaginary coordinate) of an evaluation point."""
    r = code.row_variables
    return z[:r], z[r : r + code.row_bits], z[-1]


def combination_weights(transcript: Transcript, code: MatrixCode, z: list[F]) -> U64:
    """Weights (2, 3, rows): independent random ones (proximity), eq(z_row, .), eq(conj z_row, .)."""
    row, _, _ = split_point(code, z)
    out = np.empty((2, COMBINED_ROWS, code.rows), np.uint64)
    out[:, 0] = transcript.challenge_array("proximity", code.rows)
    out[:, 1] = ff.eq_table(row)[:, : code.rows]
    out[:, 2] = ff.f_conj(out[:, 1])
    return out


def column_leaf(column: bytes) -> bytes:
    """Digest of one column as it stands in an opening."""
    return blake3(column, key=COLUMN_KEY).digest()


def query_points(log_n: int, positions: Sequence[int]) -> U64:
    """The points (2, t) of positions: w^rev(j)."""
    bits = np.array(positions, np.int64)
    out = np.zeros((2, len(bits)), np.uint64)
    out[0] = 1
    for i in range(log_n):  # bit i of j, from below, is worth 2^(log_n - 1 - i) in the exponent
        factor = np.where(bits >> i & 1, ff.f_array([ff.root_of_unity(i + 1)]), ff.f_array([F.ONE]))
        out = ff.f_mul(out, factor)
    return out


def power_of_two(points: U64, bits: int) -> U64:
    """x^(2^bits) of points (2, t)."""
    for _ in range(bits):
        points = ff.f_mul(points, points)
    return points


def tail_values(code: MatrixCode, tails: U64, points: U64) -> U64:
    """What the tails (2, 3, tail) of the combined rows contribute to their values at points (2, t): (2, 3, t)."""
    weights = ff.f_mul(ff.f_powers(points, code.tail), power_of_two(points, code.row_bits)[:, :, None])
    return np.stack([ff.f_matvec(weights, np.ascontiguousarray(tails[:, i])) for i in range(COMBINED_ROWS)], axis=1)


def packed_value(inner: tuple[F, F], z0: F) -> F:
    """X~(z) from <v_2, eq(z_col)> and <v_3, conj eq(z_col)>: the packed H at z' and at conj z' give both halves."""
    h, h_bar = inner[0], inner[1].conj()
    half = F(2).inv()
    real, imag = (h + h_bar) * half, (h - h_bar) * half * F(0, 1).inv()
    return (1 - z0) * real + z0 * imag


@dataclass(frozen=True)
class Claims:
    """The random combination of all claims on the vector V = (v_1, v_2, v_3, 0), each of 2^k coefficients.

    Claim (i, j), of weight rows[i] columns[j], is <v_i, (x_j^c)_c>, the value of row i at point x_j without its tail.
    The claims <v_2, eq(z_col)> and <v_3, conj eq(z_col)> have the weights inner[0] and inner[1].
    """

    points: U64
    col: list[F]
    rows: list[F]
    inner: list[F]
    columns: U64

    @classmethod
    def draw(cls, transcript: Transcript, code: MatrixCode, z: list[F], points: U64) -> Claims:
        few = COMBINED_ROWS + 2
        weights = transcript.challenge_array("claims", few + code.queries)
        head = ff.f_list(weights[:, :few])
        _, col, _ = split_point(code, z)
        return cls(points, col, head[:COMBINED_ROWS], head[COMBINED_ROWS:], np.ascontiguousarray(weights[:, few:]))

    def total(self, values: U64, inner: tuple[F, F]) -> F:
        """The combined claim for the values (2, 3, t) of the rows without tails and the two inner products."""
        out = self.inner[0] * inner[0] + self.inner[1] * inner[1]
        for i, weight in enumerate(self.rows):
            out = out + weight * ff.f_dot(np.ascontiguousarray(values[:, i]), self.columns)
        return out

    def weight_at(self, s: list[F]) -> F:
        """The multilinear extension of the combined weights at a point: two coordinates for the row, k of c."""
        slot, col = ff.f_list(ff.eq_table(s[:2])), s[2:]
        product, x = self.columns, self.points
        for r in reversed(col):  # (x^c)_c is the tensor product of (1, x), (1, x^2), (1, x^4), ...
            product = ff.f_mul(product, ff.f_add(ff.f_mul_scalar(x, r), ff.f_array([1 - r])))
            x = ff.f_mul(x, x)
        columns = ff.f_item(ff.f_sum(product))
        out = columns * sum((a * b for a, b in zip(slot, self.rows, strict=False)), F.ZERO)
        out = out + slot[1] * self.inner[0] * ff.eq_eval(self.col, col)
        return out + slot[2] * self.inner[1] * ff.eq_eval([x.conj() for x in self.col], col)


def second_weights(transcript: Transcript, code: SecondCode, s: list[F]) -> U64:
    """Weights (2, 2, rows) of the rows of the second matrix: independent random ones, eq of the row coordinates."""
    out = np.empty((2, 2, code.rows), np.uint64)
    out[:, 0] = transcript.challenge_array("second-proximity", code.rows)
    out[:, 1] = ff.eq_table(s[: len(s) - code.row_bits])[:, : code.rows]
    return out
