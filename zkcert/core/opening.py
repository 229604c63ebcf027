"""What prover and verifier of a matrix opening share: points, leaves, row weights and the claims on combined rows.

Row r of a matrix is the polynomial with coefficients ``M[r, 0..length)``. Position j of a Merkle tree belongs to the
point ``w^rev(j)``, rev reversing the log_n bits; its leaf is the keyed hash of the values of the tree's rows there, 16
bytes each, exactly as they stand in an opening.

The opening is a chain of levels. Level 1 is the matrix of X, whose rows may lie under several roots, and its three
combined rows v_1, v_2, v_3 are not sent: their first 2^k coefficients are committed at level 2, and a sum-check shows,
for the random combination of `Claims`, what the queried columns and the value say about them. Level 2 has two combined
rows, about which the same is shown at level 3, and so on; those of the last level are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from . import field as ff
from .code import COMBINED_ROWS, MatrixCode, PlainCode
from .field import U64, F
from .transcript import Transcript

COLUMN_KEY = blake3(b"zkcert/matrix-column").digest()


def part_tree(part: int) -> bytes:
    """The name of the tree over a part of the matrix's rows."""
    return b"matrix" if part == 0 else b"matrix/%d" % part


def level_tree(level: int) -> bytes:
    """The name of the tree of a level from the second on."""
    return b"level/%d" % level


def split_point(code: MatrixCode, z: list[F]) -> tuple[list[F], list[F], F]:
    """(row point, column point, real/imaginary coordinate) of an evaluation point."""
    r = code.row_variables
    return z[:r], z[r : r + code.row_bits], z[-1]


def combination_weights(transcript: Transcript, code: MatrixCode, z: list[F]) -> U64:
    """Weights (2, 3, rows): independent random ones (proximity), eq(z_row, .), eq(conj z_row, .)."""
    row, _, _ = split_point(code, z)
    out = np.empty((2, COMBINED_ROWS, code.rows), np.uint64)
    out[:, 0] = transcript.challenge_array("proximity/1", code.rows)
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
class Inner:
    """What is claimed of one combined row but for its values at the queried points: factor <row, eq(col)> = value."""

    row: int
    factor: F
    col: list[F]
    value: F


@dataclass(frozen=True)
class Claims:
    """The random combination of all claims on the vector of the combined rows, each of 2^k coefficients.

    Claim (i, j), of weight rows[i] columns[j], is <v_i, (x_j^c)_c>, the value of row i at point x_j without its tail;
    claim inner[i] has the weight weights[i].
    """

    points: U64
    columns: U64
    rows: list[F]
    inner: tuple[Inner, ...]
    weights: list[F]

    @classmethod
    def draw(
        cls, transcript: Transcript, level: int, code: MatrixCode | PlainCode, points: U64, inner: tuple[Inner, ...]
    ) -> Claims:
        """code: that of the columns; level: that of the vector, one more."""
        few = code.combined + len(inner)
        drawn = transcript.challenge_array(f"claims/{level}", few + code.queries)
        head = ff.f_list(drawn[:, :few])
        return cls(points, np.ascontiguousarray(drawn[:, few:]), head[: code.combined], inner, head[code.combined :])

    def total(self, values: U64) -> F:
        """The combined claim for the values (2, combined, t) of the rows without tails."""
        out = F.ZERO
        for i, weight in enumerate(self.rows):
            out = out + weight * ff.f_dot(np.ascontiguousarray(values[:, i]), self.columns)
        return sum((weight * claim.value for weight, claim in zip(self.weights, self.inner, strict=True)), out)

    def weight_at(self, s: list[F], row_bits: int) -> F:
        """The multilinear extension of the combined weights at a point: coordinates for the row, row_bits for c."""
        slot, col = ff.f_list(ff.eq_table(s[: len(s) - row_bits])), s[len(s) - row_bits :]
        product, x = self.columns, self.points
        for r in reversed(col):  # (x^c)_c is the tensor product of (1, x), (1, x^2), (1, x^4), ...
            product = ff.f_mul(product, ff.f_add(ff.f_mul_scalar(x, r), ff.f_array([1 - r])))
            x = ff.f_mul(x, x)
        out = ff.f_item(ff.f_sum(product)) * sum((a * b for a, b in zip(slot, self.rows, strict=False)), F.ZERO)
        for weight, claim in zip(self.weights, self.inner, strict=True):
            out = out + slot[claim.row] * weight * claim.factor * ff.eq_eval(claim.col, col)
        return out


def value_claims(code: MatrixCode, z: list[F], inner: tuple[F, F]) -> tuple[Inner, ...]:
    """<v_2, eq(z_col)> = h and <v_3, conj eq(z_col)> = h'."""
    _, col, _ = split_point(code, z)
    return Inner(1, F.ONE, col, inner[0]), Inner(2, F.ONE, [x.conj() for x in col], inner[1])


def vector_claim(code: PlainCode, s: list[F], factor: F, claim: F) -> Inner:
    """factor V~(s) = claim for the vector under a plain level, said of its second combined row."""
    return Inner(1, factor, s[len(s) - code.row_bits :], claim)


def plain_weights(transcript: Transcript, level: int, code: PlainCode, s: list[F]) -> U64:
    """Weights (2, 2, rows) of the rows of a plain level: independent random ones, eq of the row coordinates."""
    out = np.empty((2, code.combined, code.rows), np.uint64)
    out[:, 0] = transcript.challenge_array(f"proximity/{level}", code.rows)
    out[:, 1] = ff.eq_table(s[: len(s) - code.row_bits])[:, : code.rows]
    return out
