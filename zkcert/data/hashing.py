"""Hashing samples: see `zkcert.core.sis`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from zkcert.core.field import U64, fp_add, fp_mul
from zkcert.core.sis import RHO, ROWS, columns

_LIMB_BITS = 31
_BLOCK_COLUMNS = 1 << 14  # 2^14 products of a byte and a 31-bit limb add up to less than 2^53
_BLOCK_ENTRIES = 1 << 22  # samples are converted to float64 in pieces of this size


@lru_cache(maxsize=4)
def matrix(name: bytes, count: int) -> U64:
    """The first columns of the public matrix called name (b"A" or b"S"), read-only, shape (160, count)."""
    out = columns(name, 0, count)
    out.flags.writeable = False
    return out


def _product(x: npt.NDArray[np.uint8], m: U64) -> U64:
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


def hash_samples(x: npt.NDArray[np.uint8], rho: npt.NDArray[np.uint8]) -> U64:
    """The hashes A x_i + S rho_i: x (n, nb) and rho (n, RHO), both uint8 -> uint64 (n, 160), below p.

    Raises ValueError for other shapes or types.
    """
    if x.dtype != np.uint8 or rho.dtype != np.uint8 or x.ndim != 2 or rho.shape != (len(x), RHO):
        raise ValueError(f"expected uint8 arrays of shapes (n, nb) and (n, {RHO})")
    return fp_add(_product(x, matrix(b"A", x.shape[1])), _product(rho, matrix(b"S", RHO)))
