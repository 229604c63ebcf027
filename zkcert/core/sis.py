"""The Ajtai (SIS) hash of one sample: c = A x + S rho mod p, with 160 rows (Ajtai 1996).

x are the bytes of the sample, rho are RHO random bytes. Two samples with one hash give a vector of entries
within [-255, 255] in the kernel of (A | S): a short-integer-solution problem, whose hardness
``benchmarks/sis_estimate.py`` estimates. Hiding is statistical, by the leftover hash lemma, as
8 RHO >= 160 * 61 + 256.

Column j of the matrix called ``name`` is read off the XOF BLAKE3("zkcert/sis/1" || u8 length of name || name
|| u64 j), integers little-endian: of the u64 words, masked to their low 61 bits, those equal to p are skipped
and the first 160 others are the column.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from zkcert.core.field import U64, P
from zkcert.core.transcript import xof_field

ROWS = 160
RHO = 1280

_BLOCK_SEEDS = 1 << 12  # columns of the matrices are made so many at a time


def columns(name: bytes, start: int, stop: int) -> U64:
    """Columns start to stop of the public matrix called name, shape (160, stop - start), entries below p."""
    prefix = b"zkcert/sis/1" + bytes([len(name)]) + name
    out = np.empty((stop - start, ROWS), np.uint64)
    for begin in range(0, len(out), _BLOCK_SEEDS):
        block = out[begin : begin + _BLOCK_SEEDS]
        seeds = [prefix + (start + begin + j).to_bytes(8, "little") for j in range(len(block))]
        words = b"".join(blake3(seed).digest(length=8 * ROWS) for seed in seeds)
        np.bitwise_and(np.frombuffer(words, "<u8").reshape(block.shape), np.uint64(P), out=block)
        for j in np.flatnonzero((block == np.uint64(P)).any(axis=1)).tolist():
            block[j] = xof_field(seeds[j], ROWS)  # a word is skipped, which happens to one column in 2^53
    return out.T
