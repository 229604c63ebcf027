"""The hiding matrix commitment to X: rows of packed coefficients with random tails, Reed-Solomon encoded."""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import MASK_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode
from zkcert.core.field import F
from zkcert.core.merkle import MerkleTree
from zkcert.core.opening import LEAF_PREFIX, ROW_BLOCK, combination_weights
from zkcert.core.transcript import Transcript, xof_field

from . import kernels

U64 = NDArray[np.uint64]


class UnluckyMasks(Exception):
    """The masking rows' weights are dependent (probability about 2^-120): restart with fresh randomness."""


class MatrixCommitment:
    """Encodes and hashes X block by block; keeps the codewords for the opening."""

    def __init__(self, x: NDArray[np.int32], code: MatrixCode, secret: bytes) -> None:
        """x: int32 (entries,), at most ``2 * code.width * code.data_rows`` of them."""
        self.code = code
        data = np.zeros(2 * code.width * code.mask_row, np.int32)
        data[: len(x)] = x
        self.data = data.reshape(code.mask_row, code.width, 2)
        count = MASK_ROWS * code.width + code.rows * code.tail
        random = np.ascontiguousarray(xof_field(b"zkcert/masks" + secret, 2 * count).reshape(2, count))
        self.masks = random[:, : MASK_ROWS * code.width].reshape(2, MASK_ROWS, code.width)
        self.tails = random[:, MASK_ROWS * code.width :].reshape(2, code.rows, code.tail)
        hashers = [blake3(LEAF_PREFIX + j.to_bytes(8, "little")) for j in range(1 << code.log_n)]
        self.blocks: list[U64] = []
        for start in range(0, code.rows, ROW_BLOCK):
            stop = min(start + ROW_BLOCK, code.rows)
            block = kernels.encode_rows(*self._lanes(start, stop), code.log_n)
            flat = block.reshape(len(hashers), -1).view(np.uint8)
            for h, column in zip(hashers, flat, strict=True):
                h.update(column.data)
            self.blocks.append(block)
        leaves = np.frombuffer(b"".join(h.digest() for h in hashers), np.uint8).reshape(-1, 32)
        self.tree = MerkleTree(leaves, b"matrix")

    @property
    def root(self) -> bytes:
        return self.tree.root

    def _lanes(self, start: int, stop: int) -> tuple[U64, U64]:
        """Real and imaginary lanes (stop - start, length) of whole rows, tails included."""
        code = self.code
        out = np.empty((2, stop - start, code.length), np.uint64)
        data = self.data[start : min(stop, code.mask_row)]
        for lane in range(2):
            out[lane, : len(data), : code.width] = ff.fp_from_int(data[:, :, lane].astype(np.int64))
        first = max(start, code.mask_row)
        out[:, first - start :, : code.width] = self.masks[:, first - code.mask_row : stop - code.mask_row]
        out[:, :, code.width :] = self.tails[:, start:stop]
        return np.ascontiguousarray(out[0]), np.ascontiguousarray(out[1])

    def combine(self, weights: U64) -> U64:
        """Row combinations (2, k, length) for weights (2, k, rows)."""
        code = self.code
        head = kernels.combine_rows(np.ascontiguousarray(weights[:, :, : code.mask_row]), self.data)
        masks = kernels.fold_matrix_f(
            self.masks.reshape(2, 1, MASK_ROWS, code.width),
            np.ascontiguousarray(weights[:, :, code.mask_row :]),
        )
        tails = kernels.fold_matrix_f(self.tails.reshape(2, 1, code.rows, code.tail), np.ascontiguousarray(weights))
        k = weights.shape[1]
        head = ff.f_add(head, masks.reshape(2, k, code.width))
        return np.concatenate([head, tails.reshape(2, k, code.tail)], axis=2)

    def open(self, transcript: Transcript, z: list[F]) -> bytes:
        """The opening of X~(z): nonces, the three combined rows, the queried columns and their Merkle proof."""
        nonce = transcript.grind(PROXIMITY_GRIND)
        weights = combination_weights(transcript, self.code, z)
        if mask_rank(weights[:, :, self.code.mask_row :]) < 3:
            raise UnluckyMasks
        rows = ff.f_to_bytes(self.combine(weights))
        transcript.absorb("combined-rows", rows)
        query_nonce = transcript.grind(QUERY_GRIND)
        queries = transcript.distinct_indices("queries", self.code.queries, self.code.log_n)
        columns = np.concatenate([b[queries] for b in self.blocks], axis=2)  # (t, 2, rows)
        opened = ff.f_to_bytes(columns.transpose(1, 0, 2)) + self.tree.multiproof(queries)
        transcript.absorb("opened-columns", opened)
        return nonce.to_bytes(8, "little") + rows + query_nonce.to_bytes(8, "little") + opened


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
