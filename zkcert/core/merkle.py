"""Proofs of several leaves of a BLAKE3 Merkle tree with domain separation; `zkcert.core.tree` builds trees.

With ``name`` = u8 length || bytes, and integers little-endian:

* leaf i      BLAKE3("zkcert/merkle/leaf/1" || name || u64 i || data);
* absent leaf BLAKE3("zkcert/merkle/absent/1" || name), for positions n, ..., 2^depth - 1;
* node        BLAKE3("zkcert/merkle/node/1" || name || u8 level || u64 position || left || right), level 1
  above the leaves, ``depth`` = ceil(log2 n) at the root.

A multiproof lists, level by level from the leaves upwards and by rising position within a level, the siblings
that cannot be computed from the opened leaves; so it is unique for a set of leaves. A root fixes the depth
but not n, which must be stated beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from blake3 import blake3

U8Array = npt.NDArray[np.uint8]

DIGEST_BYTES = 32
MAX_LEAVES = 1 << 63


def hash_prefix(kind: bytes, name: bytes) -> bytes:
    if len(name) > 255:
        raise ValueError("a tree name has at most 255 bytes")
    return b"zkcert/merkle/" + kind + b"/1" + bytes([len(name)]) + name


def leaf_digest(name: bytes, index: int, data: bytes) -> bytes:
    """The 32-byte digest of the leaf at a position of the tree called name."""
    return blake3(hash_prefix(b"leaf", name) + index.to_bytes(8, "little") + data).digest()


def _node(prefix: bytes, level: int, position: int, children: bytes) -> bytes:
    return blake3(prefix + bytes([level]) + position.to_bytes(8, "little") + children).digest()


def paths(depth: int, indices: Sequence[int]) -> Iterator[list[int]]:
    """For each level below the root, the positions of the siblings a proof must supply, rising."""
    known = set(indices)
    for _ in range(depth):
        yield sorted({i ^ 1 for i in known} - known)
        known = {i >> 1 for i in known}


def multiproof_bytes(n: int, indices: Sequence[int]) -> int:
    """Length of the proof for these leaves of a tree with n leaves."""
    return DIGEST_BYTES * sum(len(siblings) for siblings in paths((n - 1).bit_length(), indices))


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
    prefix, offset = hash_prefix(b"node", name), 0
    values = {i: row.tobytes() for i, row in zip(opened, leaf_digests, strict=True)}
    for level, siblings in enumerate(paths((n - 1).bit_length(), opened), start=1):
        end = offset + len(siblings) * DIGEST_BYTES
        if end > len(proof):
            return False
        for i in siblings:
            values[i] = proof[offset : offset + DIGEST_BYTES]
            offset += DIGEST_BYTES
        parents = {i >> 1 for i in values}
        values = {i: _node(prefix, level, i, values[2 * i] + values[2 * i + 1]) for i in parents}
    return offset == len(proof) and values[0] == root
