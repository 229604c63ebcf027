"""Compiled prover kernels over F = F_p[i]/(i^2 + 1), p = 2^61 - 1.

Every public function takes and returns canonical arrays and scalars of `zkcert.core.field`: an F array is
uint64 of shape (2, ...).  The compiled functions work on the two lanes as separate contiguous vectors,
multiply by 32-bit halves so that LLVM vectorises the loops, and release the GIL; `spread` cuts long ranges
into pieces for a pool of THREADS threads.  Sums are accumulated as separate low and high 32-bit halves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite.binding import get_host_cpu_features
from numba import config, njit

from zkcert.core.field import U64, F

IntArray = npt.NDArray[Any]

THREADS = len(os.sched_getaffinity(0))
MAX_GRAIN = 1 << 62  # tests lower it to cut small inputs too

P = np.uint64((1 << 61) - 1)
TWO_P, FOUR_P = P + P, np.uint64(4) * P
M29, M31, M32 = (np.uint64((1 << k) - 1) for k in (29, 31, 32))
S2, S3, S29, S30, S31, S32, S61 = (np.uint64(k) for k in (2, 3, 29, 30, 31, 32, 61))
ZERO = np.uint64(0)
WIDTH = 512  # inner block of the matrix kernels
ROWS = 16  # rows per block of the encoder

# LLVM halves the vector width on some CPUs for the sake of the clock; these loops gain 1.5x from full width.
_features = get_host_cpu_features()
if _features.get("avx512f") and config.CPU_FEATURES is None:
    _features["prefer-256-bit"] = False
    config.CPU_FEATURES = _features.flatten()

inline = njit(forceinline=True)
kernel = njit(nogil=True, cache=True)

# ------------------------------------------------------------------------------------------- arithmetic


@inline
def fold(x):
    """A value below 2^61 + 7 congruent to any u64."""
    return (x & P) + (x >> S61)


@inline
def reduce(x):
    """The canonical residue of any u64."""
    y = (x & P) + (x >> S61)
    return min(y, y - P)


@inline
def sub(x, y):
    s = x - y
    return min(s, s + P)


@inline
def dot2(a, b, c, d):
    """A u64 congruent to a*b + c*d; below 2^63 if all are at most p.  One factor of each may be 2^62 + 16."""
    a0, a1, b0, b1 = a & M32, a >> S32, b & M32, b >> S32
    c0, c1, d0, d1 = c & M32, c >> S32, d & M32, d >> S32
    low, low2 = a0 * b0, c0 * d0
    mid = a1 * b0 + a0 * b1 + c1 * d0 + c0 * d1 + (low >> S32) + (low2 >> S32)
    high = a1 * b1 + c1 * d1
    return (high << S3) + (mid >> S29) + ((mid & M29) << S32) + (low & M32) + (low2 & M32)


@inline
def mul(ar, ai, br, bi):
    """Lanes, any u64, of (ar + i ai)(br + i bi) for a at most 2^62 + 16 and b at most p."""
    return dot2(ar, br, ai, P - bi), dot2(ar, bi, ai, br)


@inline
def rotate(x, s):
    """x * 2^s as a value below 2^61 + 7, for any u64 x and s < 61."""
    y = reduce(x)
    return ((y << s) & P) + (y >> (S61 - s))


@inline
def residue(x):
    """Canonical residue of an int64 of absolute value below p."""
    return np.uint64(x) + (np.uint64(x >> 63) & P)


@inline
def total(low, high):
    """Canonical residue of low + 2^32 high."""
    return reduce(fold(low) + rotate(high, S32))


# ---------------------------------------------------------------------------------- threads and conversion


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


os.register_at_fork(after_in_child=pool.cache_clear)


def spread(kernel: Callable[..., Any], size: int, grain: int, *args: Any) -> list[Any]:
    """The values of kernel(*args, start, stop) over pieces of at least `grain` units that tile [0, size)."""
    pieces = min(2 * THREADS, size // min(grain, MAX_GRAIN)) if THREADS > 1 else 1
    if pieces <= 1:
        return [kernel(*args, 0, size)]
    cuts = [size * k // pieces for k in range(pieces + 1)]
    return list(pool().map(lambda start, stop: kernel(*args, start, stop), cuts[:-1], cuts[1:]))


def in_threads(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The values of task(*arguments[i]), in order."""
    if THREADS == 1 or len(arguments) < 2:
        return [task(*args) for args in arguments]
    return list(pool().map(lambda args: task(*args), arguments))


def sums(results: list[tuple[int, ...]]) -> list[F]:
    """The k scalars whose accumulators (re low, re high, im low, im high) * k each piece returned."""
    totals = [sum(column) for column in zip(*results, strict=True)]
    groups = zip(*[iter(totals)] * 4, strict=True)
    return [F(t0 + (t1 << 32), t2 + (t3 << 32)) for t0, t1, t2, t3 in groups]


def flat(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """x itself if contiguous and writeable, so that each kernel is compiled for one array type, or a copy."""
    return x if x.flags.carray else x.copy()


def lanes(*arrays: U64) -> list[U64]:
    return [flat(lane) for x in arrays for lane in (x[0], x[1])]


def scalar(r: F) -> tuple[np.uint64, np.uint64]:
    return np.uint64(r.re), np.uint64(r.im)


def put(x: U64, index: int, value: F) -> None:
    x[0, index], x[1, index] = value.re, value.im
