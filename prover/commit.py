"""The hiding matrix commitment to X: rows of packed coefficients with random tails, Reed-Solomon encoded.

No codeword is kept: rows are encoded and hashed ROWS at a time, and the queried columns are evaluated afresh.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, MASK_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, SecondCode
from zkcert.core.field import F
from zkcert.core.merkle import U8Array
from zkcert.core.opening import (
    COLUMN_KEY,
    MATRIX_TREE,
    SECOND_TREE,
    Claims,
    combination_weights,
    power_of_two,
    query_points,
    second_weights,
    split_point,
)
from zkcert.core.transcript import Transcript, xof_field
from zkcert.core.tree import MerkleTree

from . import kernels

U64 = NDArray[np.uint64]
# Rows start, ..., start + ROWS - 1: int32 (ROWS, 2 * width) or lanes (2, ROWS, width), and tails (2, ROWS, any).
RowBlock = tuple[NDArray[np.int32] | U64, U64]


class UnluckyMasks(Exception):
    """The masking rows' weights are dependent (probability about 2^-120): restart with fresh randomness."""


class ColumnTree:
    """A Merkle tree over the columns of encoded rows that `block(start)` gives ROWS at a time, zero past the end.

    leaves: uint8 (2^log_n, 32), the columns' digests if they are known already.
    """

    def __init__(
        self,
        block: Callable[[int], RowBlock],
        code: MatrixCode | SecondCode,
        name: bytes,
        leaves: U8Array | None = None,
    ) -> None:
        self.block, self.code = block, code
        self.leaves = self._hashed() if leaves is None else leaves
        self.tree = MerkleTree(self.leaves, name, kernels.hash_rows)

    def _hashed(self) -> U8Array:
        code = self.code
        hasher = kernels.ColumnHasher(1 << code.log_n, code.rows, COLUMN_KEY)
        encoder = kernels.RowEncoder(code.row_bits, code.log_n)
        for start in range(0, code.rows, kernels.ROWS):
            encoder.absorb(*self.block(start), hasher)
        return hasher.digests()

    @property
    def root(self) -> bytes:
        return self.tree.root

    def open(self, queries: list[int]) -> bytes:
        """The columns at the given positions and their Merkle proof."""
        encoder = kernels.RowEncoder(self.code.row_bits, self.code.log_n)
        plan = encoder.plan(queries)
        parts = [encoder.evaluate(*self.block(start), plan) for start in range(0, self.code.rows, kernels.ROWS)]
        columns = np.concatenate(parts, axis=2)[:, :, : self.code.rows]
        return ff.f_to_bytes(columns.transpose(1, 0, 2)) + self.tree.multiproof(queries)


class MatrixCommitment:
    """Commits to X and opens its multilinear extension. X itself is kept by reference and only read."""

    def __init__(self, x: NDArray[np.int32], code: MatrixCode, secret: bytes, leaves: U8Array | None = None) -> None:
        """x: int32 (entries,), at most ``2 * code.width * code.data_rows`` of them; leaves as in `ColumnTree`."""
        self.code = code
        self.x = x.view()
        self.x.flags.writeable = False
        count = MASK_ROWS * code.width + code.rows * code.tail
        random = np.ascontiguousarray(xof_field(b"zkcert/masks" + secret, 2 * count).reshape(2, count))
        self.masks = random[:, : MASK_ROWS * code.width].reshape(2, MASK_ROWS, code.width)
        self.tails = random[:, MASK_ROWS * code.width :].reshape(2, code.rows, code.tail)
        self.columns = ColumnTree(self._block, code, MATRIX_TREE, leaves)

    @property
    def root(self) -> bytes:
        return self.columns.root

    def _block(self, start: int) -> RowBlock:
        code, stop, entries = self.code, start + kernels.ROWS, 2 * self.code.width
        tail = np.zeros((2, kernels.ROWS, code.tail), np.uint64)
        tail[:, : code.rows - start] = self.tails[:, start:stop]
        if stop * entries <= len(self.x):
            return self.x[start * entries : stop * entries].reshape(kernels.ROWS, entries), tail
        lanes = np.zeros((2, kernels.ROWS, code.width), np.uint64)
        for r in range(start, min(stop, code.mask_row)):
            row = self.x[r * entries : (r + 1) * entries]
            for lane in range(2):
                part = row[lane::2]
                lanes[lane, r - start, : len(part)] = ff.fp_from_int(part.astype(np.int64))
        first = max(start, code.mask_row)
        lanes[:, first - start : code.rows - start] = self.masks[:, first - code.mask_row : stop - code.mask_row]
        return lanes, tail

    def combine(self, weights: U64) -> U64:
        """The three row combinations (2, 3, length) for weights (2, 3, rows), the third conjugate to the second."""
        code = self.code
        head = kernels.combine_digits(np.ascontiguousarray(weights[:, :2, : code.mask_row]), self.x, code.width)
        masks = kernels.fold_matrix_f(
            self.masks.reshape(2, 1, MASK_ROWS, code.width),
            np.ascontiguousarray(weights[:, :, code.mask_row :]),
        )
        tails = kernels.fold_matrix_f(self.tails.reshape(2, 1, code.rows, code.tail), np.ascontiguousarray(weights))
        out = np.empty((2, COMBINED_ROWS, code.length), np.uint64)
        out[:, :, : code.width] = ff.f_add(head, masks.reshape(2, COMBINED_ROWS, code.width))
        out[:, :, code.width :] = tails.reshape(2, COMBINED_ROWS, code.tail)
        return out

    def open(self, transcript: Transcript, z: list[F]) -> bytes:
        """The opening of X~(z): both levels, as docs/spec/commitment.md lists them."""
        code = self.code
        nonce = transcript.grind(PROXIMITY_GRIND)
        weights = combination_weights(transcript, code, z)
        if mask_rank(weights[:, :, code.mask_row :]) < 3:
            raise UnluckyMasks
        rows = self.combine(weights)
        second = SecondCommitment(np.ascontiguousarray(rows[:, :, : code.width]), code.second)
        _, col, _ = split_point(code, z)
        eq = ff.eq_table(col)
        inner = ff.f_dot(second.v[:, 1], eq), ff.f_dot(second.v[:, 2], ff.f_conj(eq))
        said = second.root + ff.f_to_bytes(rows[:, :, code.width :]) + b"".join(h.to_bytes() for h in inner)
        transcript.absorb("combined-rows", said)
        query_nonce = transcript.grind(QUERY_GRIND)
        queries = transcript.distinct_indices("queries", code.queries, code.log_n)
        opened = self.columns.open(queries)
        transcript.absorb("opened-columns", opened)
        claims = Claims.draw(transcript, code, z, query_points(code.log_n, queries))
        shown = second.prove(transcript, claims, eq)
        return nonce.to_bytes(8, "little") + said + query_nonce.to_bytes(8, "little") + opened + shown


class SecondCommitment:
    """The commitment to the first 2^k coefficients of the three combined rows, which need no hiding."""

    def __init__(self, v: U64, code: SecondCode) -> None:
        """v: (2, 3, 2^k)."""
        self.v, self.code = v, code
        self.matrix = np.zeros((2, -(-code.rows // kernels.ROWS) * kernels.ROWS, code.width), np.uint64)
        self.matrix[:, : code.data_rows] = v.reshape(2, code.data_rows, code.width)
        self.columns = ColumnTree(self._block, code, SECOND_TREE)

    @property
    def root(self) -> bytes:
        return self.columns.root

    def _block(self, start: int) -> RowBlock:
        rows = np.ascontiguousarray(self.matrix[:, start : start + kernels.ROWS])
        return rows, np.zeros((2, kernels.ROWS, 0), np.uint64)

    def prove(self, transcript: Transcript, claims: Claims, eq: U64) -> bytes:
        """The sum-check of the combined claims, and the opening of V~ at its point; eq = eq_table(z_col)."""
        x, w = self.v.reshape(2, -1), claim_table(claims, eq).reshape(2, -1)
        out, s = [], []
        for _ in range((x.shape[1] - 1).bit_length()):
            if x.shape[1] % 2:  # three rows are left: the fourth is zero
                x, w = (np.concatenate((y, np.zeros((2, 1), np.uint64)), axis=1) for y in (x, w))
            t0, tinf = kernels.product_round(x, w)
            out.append(t0.to_bytes() + tinf.to_bytes())
            transcript.absorb("claims/round", out[-1])
            rho = transcript.challenge("rho/claims")
            x, w = kernels.bind(x, rho, F.ZERO), kernels.bind(w, rho, F.ZERO)
            s.insert(0, rho)
        weights = second_weights(transcript, self.code, s)
        padded = self.matrix[:, None, : self.code.rows]
        rows = ff.f_to_bytes(kernels.fold_matrix_f(np.ascontiguousarray(padded), weights))
        transcript.absorb("second-rows", rows)
        nonce = transcript.grind(QUERY_GRIND)
        queries = transcript.distinct_indices("second-queries", self.code.queries, self.code.log_n)
        opened = self.columns.open(queries)
        transcript.absorb("second-columns", opened)
        return b"".join(out) + rows + nonce.to_bytes(8, "little") + opened


def claim_table(claims: Claims, eq: U64) -> U64:
    """The combined weights (2, 3, 2^k) of the claims."""
    bits = eq.shape[1].bit_length() - 1
    low = ff.f_powers(claims.points, 1 << bits // 2)
    high = ff.f_powers(power_of_two(claims.points, bits // 2), 1 << bits - bits // 2)
    high = ff.f_mul(high, claims.columns[:, :, None])
    columns = kernels.fold_matrix_f(low[:, None], np.ascontiguousarray(high.transpose(0, 2, 1))).reshape(2, -1)
    out = np.stack([ff.f_mul_scalar(columns, weight) for weight in claims.rows], axis=1)
    out[:, 1] = ff.f_add(out[:, 1], ff.f_mul_scalar(eq, claims.inner[0]))
    out[:, 2] = ff.f_add(out[:, 2], ff.f_mul_scalar(ff.f_conj(eq), claims.inner[1]))
    return out


def mask_rank(m: U64) -> int:
    """Rank of a small matrix (2, k, n) over F."""
    rows = [[ff.f_item(m, (i, j)) for j in range(m.shape[2])] for i in range(m.shape[1])]
    rank = 0
    for col in range(m.shape[2]):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][col]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        inv = rows[rank][col].inv()
        for i in range(rank + 1, len(rows)):
            factor = rows[i][col] * inv
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank
