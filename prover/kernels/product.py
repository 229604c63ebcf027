"""Rounds of product sum-checks."""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, U64Array

from .arith import (
    M32,
    S32,
    WIDTH,
    ZERO,
    P,
    fold,
    inline,
    kernel,
    lanes,
    mul,
    spread,
    sub,
    sums,
    total,
)


@inline
def _product_pair(a0r, a0i, a1r, a1i, b0r, b0i, b1r, b1i):
    """Lanes, any u64, of a0*b0 and (a1 - a0)(b1 - b0)."""
    sr, si = mul(a0r, a0i, b0r, b0i)
    tr, ti = mul(a1r - a0r + P, a1i - a0i + P, sub(b1r, b0r), sub(b1i, b0i))
    return sr, si, tr, ti


@kernel
def _product_sums(a_r, a_i, b_r, b_i, start, stop):
    ar, ai = a_r[2 * start : 2 * stop], a_i[2 * start : 2 * stop]
    br, bi = b_r[2 * start : 2 * stop], b_i[2 * start : 2 * stop]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        sr, si, tr, ti = _product_pair(ar[j], ai[j], ar[k], ai[k], br[j], bi[j], br[k], bi[k])
        s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
        t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
    return s0, s1, s2, s3, t0, t1, t2, t3


@kernel
def _product_sums_eq(e_r, e_i, shift, a_r, a_i, b_r, b_i, start, stop):
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    if shift >= 7:  # one multiplication by e per group
        while start < stop:
            g = start >> shift
            end = min(stop, (g + 1) << shift)
            u0, u1, u2, u3, v0, v1, v2, v3 = _product_sums(a_r, a_i, b_r, b_i, start, end)
            sr, si = mul(total(u0, u1), total(u2, u3), e_r[g], e_i[g])
            tr, ti = mul(total(v0, v1), total(v2, v3), e_r[g], e_i[g])
            s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
            t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
            start = end
        return s0, s1, s2, s3, t0, t1, t2, t3
    er, ei = np.empty(WIDTH, np.uint64), np.empty(WIDTH, np.uint64)
    for first in range(start, stop, WIDTH):
        width = min(WIDTH, stop - first)
        for i in range(width):
            er[i], ei[i] = e_r[(first + i) >> shift], e_i[(first + i) >> shift]
        ar, ai = a_r[2 * first : 2 * (first + width)], a_i[2 * first : 2 * (first + width)]
        br, bi = b_r[2 * first : 2 * (first + width)], b_i[2 * first : 2 * (first + width)]
        for i in range(width):
            j, k = 2 * i, 2 * i + 1
            sr, si, tr, ti = _product_pair(ar[j], ai[j], ar[k], ai[k], br[j], bi[j], br[k], bi[k])
            sr, si = mul(fold(sr), fold(si), er[i], ei[i])
            tr, ti = mul(fold(tr), fold(ti), er[i], ei[i])
            s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
            t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
    return s0, s1, s2, s3, t0, t1, t2, t3


def product_round(e: U64Array | None, shift: int, a: U64Array, b: U64Array) -> tuple[F, F]:
    """Values at 0 and infinity of a sum-check round polynomial: a, b (2, m), m even.

    t0 = sum_i e[i >> shift] a[2i] b[2i] and tinf = sum_i e[i >> shift] (a[2i+1] - a[2i]) (b[2i+1] - b[2i])
    over i < m/2; e (2, >= ceil((m/2) / 2^shift)), or None for all ones.
    """
    half = a.shape[1] // 2
    if a.shape[1] % 2 or a.shape != b.shape:
        raise ValueError("tables must have the same even length")
    if e is None:
        t0, tinf = sums(spread(_product_sums, half, 1 << 15, *lanes(a, b)))
    else:
        t0, tinf = sums(spread(_product_sums_eq, half, 1 << 14, *lanes(e), shift, *lanes(a, b)))
    return t0, tinf
