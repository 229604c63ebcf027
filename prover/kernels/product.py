"""Rounds of product sum-checks."""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, U64Array, f_item

from .arith import (
    M31,
    M32,
    S31,
    S32,
    WIDTH,
    ZERO,
    IntArray,
    P,
    flat,
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


@kernel
def _product_sums_int(x, w_r, w_i, start, stop):
    y, wr, wi = x[2 * start : 2 * stop], w_r[2 * start : 2 * stop], w_i[2 * start : 2 * stop]
    # w = low + 2^31 high; all products are signed 32 x 32 bits, their sums of two stay within 63 bits
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0
    for i in range(stop - start):
        even, odd = np.int64(y[2 * i]), np.int64(y[2 * i + 1])
        vr, vi = wr[2 * i], wi[2 * i]
        dr, di = sub(wr[2 * i + 1], vr), sub(wi[2 * i + 1], vi)
        a, b = even * np.int64(vr & M31), even * np.int64(vr >> S31)
        c, d = even * np.int64(vi & M31), even * np.int64(vi >> S31)
        s0, s1, s2, s3 = s0 + (a & 0xFFFFFFFF), s1 + (a >> 32), s2 + (b & 0xFFFFFFFF), s3 + (b >> 32)
        s4, s5, s6, s7 = s4 + (c & 0xFFFFFFFF), s5 + (c >> 32), s6 + (d & 0xFFFFFFFF), s7 + (d >> 32)
        a, b = np.int64(dr & M31), np.int64(dr >> S31)
        c, d = np.int64(di & M31), np.int64(di >> S31)
        a, b, c, d = odd * a - even * a, odd * b - even * b, odd * c - even * c, odd * d - even * d
        t0, t1, t2, t3 = t0 + (a & 0xFFFFFFFF), t1 + (a >> 32), t2 + (b & 0xFFFFFFFF), t3 + (b >> 32)
        t4, t5, t6, t7 = t4 + (c & 0xFFFFFFFF), t5 + (c >> 32), t6 + (d & 0xFFFFFFFF), t7 + (d >> 32)
    return s0, s1, s2, s3, s4, s5, s6, s7, t0, t1, t2, t3, t4, t5, t6, t7


def product_round_int(x: IntArray, w: U64Array) -> tuple[F, F]:
    """product_round without e for signed int32 base values x (m,) and w (2, m); 0 follows an odd end."""
    results = spread(_product_sums_int, len(x) // 2, 1 << 15, flat(x), *lanes(w))
    totals = [sum(column) for column in zip(*results, strict=True)]
    groups = zip(*[iter(totals)] * 4, strict=True)
    v = [t0 + (t1 << 32) + (t2 << 31) + (t3 << 63) for t0, t1, t2, t3 in groups]
    last = f_item(w, -1) * int(x[-1]) if len(x) % 2 else F.ZERO
    return F(v[0], v[1]) + last, F(v[2], v[3]) + last
