"""The hiding matrix commitment to X, and the chain of plain ones to combined rows that opens it.

Rows of packed coefficients with random tails are Reed-Solomon encoded. No codeword is kept: rows are encoded and hashed
ROWS at a time, and the queried columns are evaluated afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, MASK_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, PlainCode
from zkcert.core.field import F
from zkcert.core.merkle import U8Array
from zkcert.core.opening import (
    COLUMN_KEY,
    Claims,
    Inner,
    combination_weights,
    level_tree,
    part_tree,
    plain_weights,
    power_of_two,
    query_points,
    value_claims,
    vector_claim,
)
from zkcert.core.transcript import Transcript, xof_field
from zkcert.core.tree import MerkleTree

from . import grinding, kernels

U64 = NDArray[np.uint64]


class UnluckyMasks(Exception):
    """The masking rows' weights are dependent (probability about 2^-120): restart with fresh randomness."""


class ColumnTree:
    """A Merkle tree over the columns of encoded rows that `block(start)` gives ROWS at a time.

    leaves: uint8 (2^log_n, 32), the columns' digests if they are known already.
    """

    def __init__(
        self,
        block: Callable[[int], kernels.RowBlock],
        rows: int,
        code: MatrixCode | PlainCode,
        name: bytes,
        leaves: U8Array | None = None,
    ) -> None:
        self.block, self.rows, self.code, self.name = block, rows, code, name
        self.tree = MerkleTree(self._hashed() if leaves is None else leaves, name, kernels.hash_rows)

    def _hashed(self) -> U8Array:
        code = self.code
        hasher = kernels.ColumnHasher(1 << code.log_n, self.rows, COLUMN_KEY)
        encoder = kernels.RowEncoder(code.row_bits, code.log_n)
        for start in range(0, self.rows, kernels.ROWS):
            encoder.absorb(self.block(start), hasher)
        return hasher.digests()

    def _values(self, queries: list[int]) -> list[U64]:
        """The values (t, 2, ROWS) of each block of rows at the given positions."""
        encoder = kernels.RowEncoder(self.code.row_bits, self.code.log_n)
        plan = encoder.plan(queries)
        return [encoder.evaluate(self.block(start), plan) for start in range(0, self.rows, kernels.ROWS)]

    @property
    def root(self) -> bytes:
        return self.tree.root

    @property
    def leaves(self) -> U8Array:
        """The columns' digests, uint8 (2^log_n, 32)."""
        return self.tree.leaves

    def open(self, queries: list[int]) -> bytes:
        """The columns at the given positions and their Merkle proof."""
        columns = np.concatenate(self._values(queries), axis=2)[:, :, : self.rows]
        return ff.f_to_bytes(columns.transpose(1, 0, 2)) + self.tree.multiproof(queries)


class Part:
    """The commitment to one part of X: its rows with their tails and, in the last part, the masking rows."""

    def __init__(
        self, x: NDArray[np.int32], code: MatrixCode, index: int, secret: bytes, leaves: U8Array | None = None
    ) -> None:
        """x: int32 (entries,), at most ``2 * code.width * code.data_rows[index]``; leaves as in `ColumnTree`."""
        self.code, self.index, self.rows, self.start = code, index, code.parts[index], code.starts[index]
        self.x = x.view()
        self.x.flags.writeable = False
        masks = MASK_ROWS if index == len(code.parts) - 1 else 0
        head, count = masks * code.width, self.rows * code.tail
        seed = b"zkcert/masks" + (b"/%d" % index if index else b"") + secret
        random = xof_field(seed, 2 * (head + count)).reshape(2, head + count)
        self.masks = np.ascontiguousarray(random[:, :head]).reshape(2, masks, code.width)
        self.tails = np.ascontiguousarray(random[:, head:]).reshape(2, self.rows, code.tail)
        del random
        self.mask_row = self.rows - masks
        self.columns = self._tree(leaves)

    @property
    def root(self) -> bytes:
        return self.columns.root

    def _tree(self, leaves: U8Array | None) -> ColumnTree:
        return ColumnTree(self._block, self.rows, self.code, part_tree(self.index), leaves)

    def _block(self, start: int) -> kernels.RowBlock:
        code, entries = self.code, 2 * self.code.width
        stop = min(start + kernels.ROWS, self.rows)
        whole = max(start, min(stop, len(self.x) // entries))  # rows from here on are cut off, empty, or masks
        lanes = np.zeros((2, stop - whole, code.width), np.uint64)
        row = self.x[whole * entries : stop * entries]
        if len(row):
            for lane in range(2):
                part = row[lane::2]
                lanes[lane, 0, : len(part)] = ff.fp_from_int(part.astype(np.int64))
        if stop > self.mask_row:
            first = max(whole, self.mask_row)
            lanes[:, first - whole :] = self.masks[:, first - self.mask_row : stop - self.mask_row]
        ints = self.x[start * entries : whole * entries].reshape(-1, entries)
        return ints, lanes, np.ascontiguousarray(self.tails[:, start:stop])

    def combine(self, weights: U64) -> U64:
        """What these rows add to the combinations (2, 3, length), for the weights (2, 3, rows) of this part."""
        width, at = self.code.width, self.mask_row
        out = np.empty((2, COMBINED_ROWS, self.code.length), np.uint64)
        out[:, :, :width] = kernels.combine_digits(np.ascontiguousarray(weights[:, :2, :at]), self.x, width)
        if at < self.rows:
            masks = kernels.fold_matrix_f(self.masks[:, None], np.ascontiguousarray(weights[:, :, at:]))[:, 0]
            for i in range(COMBINED_ROWS):
                out[:, i, :width] = ff.f_add(out[:, i, :width], masks[:, i])
        out[:, :, width:] = kernels.fold_matrix_f(self.tails[:, None], np.ascontiguousarray(weights))[:, 0]
        return out


class MatrixCommitment:
    """Commits to X, part by part, and opens its multilinear extension. X is kept by reference and only read."""

    def __init__(self, code: MatrixCode, part: type[Part] | Callable[..., Part] = Part) -> None:
        """part: makes a `Part`, or what does its work elsewhere."""
        self.code, self.part = code, part
        self.parts: list[Part] = []

    def commit(self, x: NDArray[np.int32], secret: bytes, leaves: U8Array | None = None) -> Part:
        """Commit to the next part; arguments as those of `Part`. Its root must be absorbed.

        A part that is committed after a challenge needs a secret that depends on it: no tail may serve two challenges.
        """
        self.parts.append(self.part(x, self.code, len(self.parts), secret, leaves))
        return self.parts[-1]

    @property
    def masks(self) -> U64:
        """The masking rows (2, 4, width), which are in the last part."""
        return self.parts[-1].masks

    def combine(self, weights: U64) -> U64:
        """The three row combinations (2, 3, length) for weights (2, 3, rows), the third conjugate to the second."""
        return reduce(ff.f_add, (p.combine(weights[:, :, p.start : p.start + p.rows]) for p in self.parts))

    def open(self, transcript: Transcript, z: list[F]) -> bytes:
        """The opening of X~(z): all levels, as docs/spec/commitment.md lists them."""
        code = self.code
        assert len(self.parts) == len(code.parts)
        nonce = grinding.grind(transcript, PROXIMITY_GRIND)
        weights = combination_weights(transcript, code, z)
        if mask_rank(weights[:, :, code.mask_row :]) < COMBINED_ROWS:
            raise UnluckyMasks
        rows = self.combine(weights)
        below = PlainCommitment(np.ascontiguousarray(rows[:, :, : code.width]), code.below, 2)
        tails = ff.f_to_bytes(rows[:, :, code.width :])
        del rows
        unknown = value_claims(code, z, (F.ZERO, F.ZERO))
        h, h_bar = (inner_product(below.v[:, claim.row], claim) for claim in unknown)
        said = below.root + tails + h.to_bytes() + h_bar.to_bytes()
        transcript.absorb("combined-rows/1", said)
        query_nonce, queries = draw_queries(transcript, 1, code)
        opened = b"".join(part.columns.open(queries) for part in self.parts)
        transcript.absorb("columns/1", opened)
        points, inner = query_points(code.log_n, queries), value_claims(code, z, (h, h_bar))
        shown = below.prove(transcript, Claims.draw(transcript, 2, code, points, inner))
        return nonce.to_bytes(8, "little") + said + query_nonce + opened + shown


class PlainCommitment:
    """The commitment to the combined rows of the level above, without tails: it needs no hiding."""

    def __init__(self, v: U64, code: PlainCode, level: int) -> None:
        """v: (2, combined, 2^k), contiguous."""
        self.v, self.code, self.level = v, code, level
        self.matrix = v.reshape(2, code.data_rows, code.width)
        self.columns = ColumnTree(self._block, code.rows, code, level_tree(level))

    @property
    def root(self) -> bytes:
        return self.columns.root

    def _block(self, start: int) -> kernels.RowBlock:
        lanes = np.ascontiguousarray(self.matrix[:, start : start + kernels.ROWS])
        return np.empty((0, 2 * self.code.width), np.int32), lanes, np.zeros((2, 0, 0), np.uint64)

    def prove(self, transcript: Transcript, claims: Claims) -> bytes:
        """The sum-check of the combined claims, the opening of V~ at its point, and all levels below."""
        code, level = self.code, self.level
        rounds, s, claim = self._fold(transcript, claims)
        factor = claims.weight_at(s, self.v.shape[2].bit_length() - 1)
        nonce = grinding.grind(transcript, PROXIMITY_GRIND)
        weights = plain_weights(transcript, level, code, s)
        matrix = self.matrix[:, None]
        rows = kernels.fold_matrix_f(matrix, np.ascontiguousarray(weights[:, :, : code.data_rows]))[:, 0]
        below = None if code.below is None else PlainCommitment(np.ascontiguousarray(rows), code.below, level + 1)
        said = ff.f_to_bytes(rows) if below is None else below.root
        transcript.absorb(f"combined-rows/{level}", said)
        query_nonce, queries = draw_queries(transcript, level, code)
        opened = self.columns.open(queries)
        transcript.absorb(f"columns/{level}", opened)
        out = rounds + nonce.to_bytes(8, "little") + said + query_nonce + opened
        if below is None:
            return out
        points, inner = query_points(code.log_n, queries), vector_claim(code, s, factor, claim)
        return out + below.prove(transcript, Claims.draw(transcript, level + 1, code, points, (inner,)))

    def _fold(self, transcript: Transcript, claims: Claims) -> tuple[bytes, list[F], F]:
        """The rounds of the sum-check of <V, W>, its point, and W~ V~ there."""
        x, w = self.v.reshape(2, -1), claim_table(claims, self.v.shape[2].bit_length() - 1).reshape(2, -1)
        out, s = [], []
        for _ in range(self.code.rounds):
            if x.shape[1] % 2:  # three rows are left: the fourth is zero
                x, w = (np.concatenate((y, np.zeros((2, 1), np.uint64)), axis=1) for y in (x, w))
            t0, tinf = kernels.product_round(x, w)
            out.append(t0.to_bytes() + tinf.to_bytes())
            transcript.absorb(f"claims-round/{self.level}", out[-1])
            rho = transcript.challenge(f"rho/claims/{self.level}")
            x, w = kernels.bind(x, rho, F.ZERO), kernels.bind(w, rho, F.ZERO)
            s.insert(0, rho)
        return b"".join(out), s, ff.f_item(x, 0) * ff.f_item(w, 0)


def draw_queries(transcript: Transcript, level: int, code: MatrixCode | PlainCode) -> tuple[bytes, list[int]]:
    """The nonce and the positions that it gives."""
    nonce = grinding.grind(transcript, QUERY_GRIND)
    return nonce.to_bytes(8, "little"), transcript.distinct_indices(f"queries/{level}", code.queries, code.log_n)


def inner_product(row: U64, claim: Inner) -> F:
    """<row, eq(col)> for a combined row (2, 2^k)."""
    x, v = row[:, None, :, None], eq_table(claim.col)[:, None]
    return ff.f_item(kernels.fold_matrix_f(x, v), (0, 0, 0))


def eq_table(col: list[F]) -> U64:
    """ff.eq_table of many coordinates."""
    high, low = col[: len(col) // 2], col[len(col) // 2 :]
    return kernels.outer(ff.eq_table(high), ff.eq_table(low), 1 << len(low))


def claim_table(claims: Claims, row_bits: int) -> U64:
    """The combined weights (2, combined, 2^row_bits) of the claims."""
    low = ff.f_powers(claims.points, 1 << row_bits // 2)
    high = ff.f_powers(power_of_two(claims.points, row_bits // 2), 1 << row_bits - row_bits // 2)
    high = ff.f_mul(high, claims.columns[:, :, None])
    columns = kernels.fold_matrix_f(low[:, None], np.ascontiguousarray(high.transpose(0, 2, 1))).reshape(2, -1)
    forms = np.stack([columns, *(eq_table(claim.col) for claim in claims.inner)], axis=1)
    weights = np.zeros((2, len(claims.rows), forms.shape[1]), np.uint64)
    weights[:, :, 0] = ff.f_array(claims.rows)
    for i, (weight, claim) in enumerate(zip(claims.weights, claims.inner, strict=True), 1):
        weights[:, claim.row, i] = ff.f_array([weight * claim.factor])[:, 0]
    return kernels.fold_matrix_f(forms[:, None], weights)[:, 0]


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
