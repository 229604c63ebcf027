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

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from zkcert.core.field import P, U64Array, fp_add, fp_mul
from zkcert.core.transcript import xof_field

ROWS = 160
RHO = 1280

_LIMB_BITS = 31
_BLOCK_COLUMNS = 1 << 14  # 2^14 products of a byte and a 31-bit limb add up to less than 2^53
_BLOCK_SEEDS = 1 << 12  # columns of the matrices are made so many at a time
_BLOCK_ENTRIES = 1 << 22  # samples are converted to float64 in pieces of this size


def columns(name: bytes, start: int, stop: int) -> U64Array:
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


@lru_cache(maxsize=4)
def matrix(name: bytes, count: int) -> U64Array:
    """The first columns of the public matrix called name (b"A" or b"S"), read-only, shape (160, count)."""
    out = columns(name, 0, count)
    out.flags.writeable = False
    return out


@dataclass(frozen=True)
class Matrix:
    """The same, made as far as it is read: `self[:, a:b]`."""

    name: bytes
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        return ROWS, self.count

    def __getitem__(self, at: tuple[slice, slice]) -> U64Array:
        start, stop, _ = at[1].indices(self.count)
        return columns(self.name, start, stop)[at[0]]


def _product(x: npt.NDArray[np.uint8], m: U64Array) -> U64Array:
    """x m^T mod p, exactly, by float64 matrix products: x (n, k), m (160, k) -> (n, 160)."""
    out = np.zeros((len(x), ROWS), np.uint64)
    for j in range(0, x.shape[1], _BLOCK_COLUMNS):
        block, part = m[:, j : j + _BLOCK_COLUMNS].T, x[:, j : j + _BLOCK_COLUMNS]
        low, high = block & np.uint64((1 << _LIMB_BITS) - 1), block >> np.uint64(_LIMB_BITS)
        limbs = np.hstack((low, high)).astype(np.float64)
        step = max(1, _BLOCK_ENTRIES // part.shape[1])
        for i in range(0, len(x), step):
            sums = (part[i : i + step].astype(np.float64) @ limbs).astype(np.uint64)
            value = fp_add(sums[:, :ROWS], fp_mul(sums[:, ROWS:], np.array(1 << _LIMB_BITS, np.uint64)))
            out[i : i + step] = fp_add(out[i : i + step], value)
    return out


def hash_samples(x: npt.NDArray[np.uint8], rho: npt.NDArray[np.uint8]) -> U64Array:
    """The hashes A x_i + S rho_i: x (n, nb) and rho (n, RHO), both uint8 -> uint64 (n, 160), below p.

    Raises ValueError for other shapes or types.
    """
    if x.dtype != np.uint8 or rho.dtype != np.uint8 or x.ndim != 2 or rho.shape != (len(x), RHO):
        raise ValueError(f"expected uint8 arrays of shapes (n, nb) and (n, {RHO})")
    return fp_add(_product(x, matrix(b"A", x.shape[1])), _product(rho, matrix(b"S", RHO)))
