"""Rounds of product sum-checks."""

from __future__ import annotations

from zkcert.core.field import U64, F

from .arith import (
    M32,
    S32,
    ZERO,
    P,
    kernel,
    lanes,
    mul,
    spread,
    sub,
    sums,
)


@kernel
def _product_sums(a_r, a_i, b_r, b_i, start, stop):
    ar, ai = a_r[2 * start : 2 * stop], a_i[2 * start : 2 * stop]
    br, bi = b_r[2 * start : 2 * stop], b_i[2 * start : 2 * stop]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        sr, si = mul(ar[j], ai[j], br[j], bi[j])
        tr, ti = mul(ar[k] - ar[j] + P, ai[k] - ai[j] + P, sub(br[k], br[j]), sub(bi[k], bi[j]))
        s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
        t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
    return s0, s1, s2, s3, t0, t1, t2, t3


def product_round(a: U64, b: U64) -> tuple[F, F]:
    """sum_i a[2i] b[2i] and sum_i (a[2i+1] - a[2i]) (b[2i+1] - b[2i]) over i < m/2: a, b (2, m), m even."""
    if a.shape[1] % 2 or a.shape != b.shape:
        raise ValueError("tables must have the same even length")
    t0, tinf = sums(spread(_product_sums, a.shape[1] // 2, 1 << 15, *lanes(a, b)))
    return t0, tinf
