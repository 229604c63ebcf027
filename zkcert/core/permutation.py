"""The keyed pseudorandom permutation that draws samples: a Feistel network over AES-256 with cycle walking.

For a 32-byte key and 1 <= n <= 2^63:

* K = BLAKE3 in key-derivation mode: context "zkcert sampling permutation v1", key material = key, 32 bytes.
* h = max(1, ceil(ceil(log2 n) / 2)); the network permutes [0, 2^2h), the smallest such domain holding [0, n).
* x = L 2^h + R with 0 <= L, R < 2^h; for j = 0, ..., 11: (L, R) <- (R, L xor f_j(R)); output L 2^h + R.
* f_j(R) = the low h bits of the first 8 bytes, read little-endian, of AES-256_K(block), where block is
  u32 j || u32 R || u64 n, little-endian.
* pi(x): apply the network to x, and again to the result as long as it is >= n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from Crypto.Cipher import AES

from zkcert.errors import UnusableInput

ROUNDS = 12
MAX_DOMAIN = 1 << 63
_CONTEXT = "zkcert sampling permutation v1"
_BLOCK = np.dtype([("round", "<u4"), ("right", "<u4"), ("n", "<u8")])


def sample_indices(key: bytes, n: int, count: int) -> list[int]:
    """pi(0), ..., pi(count - 1) for the permutation pi of [0, n) that the module describes.

    Raises UnusableInput if count > n, ValueError if the key has not 32 bytes or n is outside [1, 2^63].
    """
    if len(key) != 32 or not 1 <= n <= MAX_DOMAIN or count < 0:
        raise ValueError("expected a 32-byte key, 1 <= n <= 2^63 and count >= 0")
    if count > n:
        raise UnusableInput(f"cannot draw {count} samples from {n}: use fewer steps or smaller batches")
    cipher = AES.new(blake3(key, derive_key_context=_CONTEXT).digest(), AES.MODE_ECB)
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)

    def network(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        blocks = np.empty(len(x), _BLOCK)
        blocks["n"] = n
        left, right = x >> shift, x & mask
        for j in range(ROUNDS):
            blocks["round"], blocks["right"] = j, right
            output = np.frombuffer(cipher.encrypt(blocks.tobytes()), "<u8")[::2]
            left, right = right, left ^ (output & mask)
        return (left << shift) | right

    x = network(np.arange(count, dtype=np.uint64))
    while (outside := np.flatnonzero(x >= n)).size:
        x[outside] = network(x[outside])
    return [int(i) for i in x]
