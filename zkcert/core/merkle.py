"""BLAKE3 Merkle trees with domain separation and compact proofs for several leaves.

With ``name`` = u8 length || bytes, and integers little-endian:

* leaf i      BLAKE3("zkcert/merkle/leaf/1" || name || u64 i || data) in the tree of a dataset; in those of columns the
              digest of a column (`zkcert.core.opening.column_leaf`, `zkcert.core.padcode.pad_leaf`);
* absent leaf BLAKE3("zkcert/merkle/absent/1" || name), for positions n, ..., 2^depth - 1;
* node        BLAKE3("zkcert/merkle/node/1" || name || u8 level || u64 position || left || right), level 1
  above the leaves, ``depth`` = ceil(log2 n) at the root.

A multiproof lists, level by level from the leaves upwards and by rising position within a level, the siblings
that cannot be computed from the opened leaves; so it is unique for a set of leaves. A root fixes the depth
but not n, which must be stated beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from blake3 import blake3

U8Array = npt.NDArray[np.uint8]

DIGEST_BYTES = 32
MAX_LEAVES = 1 << 63
NODE_BLOCK = 1 << 16

HashRows = Callable[[U8Array, int], U8Array]


def _prefix(kind: bytes, name: bytes) -> bytes:
    if len(name) > 255:
        raise ValueError("a tree name has at most 255 bytes")
    return b"zkcert/merkle/" + kind + b"/1" + bytes([len(name)]) + name


def leaf_digest(name: bytes, index: int, data: bytes) -> bytes:
    """The 32-byte digest of the leaf at a position of the tree called name."""
    return blake3(_prefix(b"leaf", name) + index.to_bytes(8, "little") + data).digest()


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


def _node(prefix: bytes, level: int, position: int, children: bytes) -> bytes:
    return blake3(prefix + bytes([level]) + position.to_bytes(8, "little") + children).digest()


def _paths(depth: int, indices: Sequence[int]) -> Iterator[list[int]]:
    """For each level below the root, the positions of the siblings a proof must supply, rising."""
    known = set(indices)
    for _ in range(depth):
        yield sorted({i ^ 1 for i in known} - known)
        known = {i >> 1 for i in known}


class MerkleTree:
    """The tree called name over leaf digests of shape (n, 32), uint8; all levels are kept.

    `hasher(messages, length)` gives BLAKE3 of many messages padded with zeros to whole blocks of 64 bytes. Raises
    ValueError for an empty or wrongly shaped array.
    """

    def __init__(self, leaves: U8Array, name: bytes, hasher: HashRows = hash_rows) -> None:
        if leaves.dtype != np.uint8 or leaves.ndim != 2 or leaves.shape[1] != DIGEST_BYTES or not len(leaves):
            raise ValueError("leaves must be a non-empty uint8 array of shape (n, 32)")
        self.n = len(leaves)
        self.depth = (self.n - 1).bit_length()
        bottom = np.empty((1 << self.depth, DIGEST_BYTES), np.uint8)
        bottom[: self.n] = leaves
        bottom[self.n :] = np.frombuffer(blake3(_prefix(b"absent", name)).digest(), np.uint8)
        prefix = _prefix(b"node", name)
        self._levels = [bottom]
        for level in range(1, self.depth + 1):
            self._levels.append(_parents(prefix, level, self._levels[-1], hasher))

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
        for digests, siblings in zip(self._levels[:-1], _paths(self.depth, opened), strict=True):
            proof.append(digests[siblings].tobytes())
        return b"".join(proof)


def multiproof_bytes(n: int, indices: Sequence[int]) -> int:
    """Length of the proof for these leaves of a tree with n leaves."""
    return DIGEST_BYTES * sum(len(siblings) for siblings in _paths((n - 1).bit_length(), indices))


def verify_multiproof(
    root: bytes, n: int, indices: Sequence[int], leaf_digests: U8Array, proof: bytes, name: bytes
) -> bool:
    """Whether leaf_digests (k, 32) are the leaves at the k indices of the n-leaf tree with this root.

    False, never an exception, for whatever does not verify: unsorted, repeated, absent or no indices, a count
    of digests other than k, a proof that is too short or too long, n outside [1, 2^63].
    """
    try:
        opened = [operator.index(i) for i in indices]
    except TypeError:
        return False
    if not 1 <= n <= MAX_LEAVES or not opened or opened[0] < 0 or opened[-1] >= n:
        return False
    if any(a >= b for a, b in pairwise(opened)):
        return False
    if leaf_digests.dtype != np.uint8 or leaf_digests.shape != (len(opened), DIGEST_BYTES):
        return False
    prefix, offset = _prefix(b"node", name), 0
    values = {i: row.tobytes() for i, row in zip(opened, leaf_digests, strict=True)}
    for level, siblings in enumerate(_paths((n - 1).bit_length(), opened), start=1):
        end = offset + len(siblings) * DIGEST_BYTES
        if end > len(proof):
            return False
        for i in siblings:
            values[i] = proof[offset : offset + DIGEST_BYTES]
            offset += DIGEST_BYTES
        parents = {i >> 1 for i in values}
        values = {i: _node(prefix, level, i, values[2 * i] + values[2 * i + 1]) for i in parents}
    return offset == len(proof) and values[0] == root
