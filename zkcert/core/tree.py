"""Building the Merkle trees whose proofs `zkcert.core.merkle` checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from blake3 import blake3

from .merkle import DIGEST_BYTES, U8Array, hash_prefix, paths

NODE_BLOCK = 1 << 16

HashRows = Callable[[U8Array, int], U8Array]


def hash_rows(messages: U8Array, length: int) -> U8Array:
    """BLAKE3 of the first `length` bytes of each row of an array (n, m): (n, 32)."""
    return np.frombuffer(b"".join(blake3(m[:length].data).digest() for m in messages), np.uint8).reshape(-1, 32)


def _parents(prefix: bytes, level: int, below: U8Array, hasher: HashRows) -> U8Array:
    """The nodes (n, 32) of a level above the digests (2n, 32), NODE_BLOCK at a time."""
    n, head = len(below) // 2, prefix + bytes([level])
    length = len(head) + 8 + 2 * DIGEST_BYTES
    out = np.empty((n, DIGEST_BYTES), np.uint8)
    for start in range(0, n, NODE_BLOCK):
        children = below[2 * start : 2 * (start + NODE_BLOCK)].reshape(-1, 2 * DIGEST_BYTES)
        messages = np.zeros((len(children), -(-length // 64) * 64), np.uint8)
        messages[:, : len(head)] = np.frombuffer(head, np.uint8)
        positions = np.arange(start, start + len(children), dtype="<u8")
        messages[:, len(head) : len(head) + 8] = positions.view(np.uint8).reshape(-1, 8)
        messages[:, len(head) + 8 : length] = children
        out[start : start + len(children)] = hasher(messages, length)
    return out


class MerkleTree:
    """The tree called name over leaf digests of shape (n, 32), uint8; all levels are kept, these as they are.

    `hasher(messages, length)` gives BLAKE3 of many messages padded with zeros to whole blocks of 64 bytes. Raises
    ValueError for an empty or wrongly shaped array.
    """

    def __init__(self, leaves: U8Array, name: bytes, hasher: HashRows = hash_rows) -> None:
        if leaves.dtype != np.uint8 or leaves.ndim != 2 or leaves.shape[1] != DIGEST_BYTES or not len(leaves):
            raise ValueError("leaves must be a non-empty uint8 array of shape (n, 32)")
        self.n = len(leaves)
        self.depth = (self.n - 1).bit_length()
        absent = np.frombuffer(blake3(hash_prefix(b"absent", name)).digest(), np.uint8)
        spare = (1 << self.depth) - self.n
        bottom = np.concatenate([leaves, np.broadcast_to(absent, (spare, DIGEST_BYTES))]) if spare else leaves
        prefix = hash_prefix(b"node", name)
        self._levels = [bottom]
        for level in range(1, self.depth + 1):
            self._levels.append(_parents(prefix, level, self._levels[-1], hasher))

    @property
    def leaves(self) -> U8Array:
        """The leaf digests, (n, 32)."""
        return self._levels[0][: self.n]

    @property
    def root(self) -> bytes:
        """The 32-byte root."""
        return self._levels[-1].tobytes()

    def multiproof(self, indices: Iterable[int]) -> bytes:
        """The proof for a set of leaves, in any order; ValueError if it is empty or out of range."""
        opened = sorted(set(indices))
        if not opened or opened[0] < 0 or opened[-1] >= self.n:
            raise ValueError(f"indices must be non-empty and within [0, {self.n})")
        proof = []
        for digests, siblings in zip(self._levels[:-1], paths(self.depth, opened), strict=True):
            proof.append(digests[siblings].tobytes())
        return b"".join(proof)
