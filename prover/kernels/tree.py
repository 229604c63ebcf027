"""Fraction trees (LogUp-GKR)."""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, U64Array, f_array, f_item

from .arith import (
    M32,
    S32,
    ZERO,
    IntArray,
    P,
    flat,
    fold,
    inline,
    kernel,
    lanes,
    mul,
    put,
    reduce,
    scalar,
    spread,
    sub,
    sums,
)


@kernel
def _leaf_denominators(x, seg_starts, base_r, base_i, out_r, out_i, start, stop):
    for s in range(len(seg_starts)):
        first = max(start, seg_starts[s])
        last = min(stop, seg_starts[s + 1]) if s + 1 < len(seg_starts) else stop
        if first < last:
            y, qr, qi = x[first:last], out_r[first:last], out_i[first:last]
            br, bi = base_r[s] + P, base_i[s]
            for i in range(last - first):
                qr[i] = reduce(br - np.uint64(np.int64(y[i])))
                qi[i] = bi


def leaf_denominators(
    x: IntArray, seg_starts: IntArray, seg_shift: IntArray, seg_class: IntArray, alpha: F
) -> U64Array:
    """q (2, m): q[i] = alpha - (x[i] + seg_shift[s]) - i_unit * seg_class[s] for i in segment s.

    x int32 (m,); int64 vectors per segment, segment s being [seg_starts[s], seg_starts[s+1]) and the last one
    ending at m; seg_starts is sorted and begins with 0.
    """
    bases = f_array([alpha - F(a, b) for a, b in zip(seg_shift.tolist(), seg_class.tolist(), strict=True)])
    out = np.empty((2, len(x)), np.uint64)
    starts = np.array(seg_starts, np.int64)
    spread(_leaf_denominators, len(x), 1 << 17, flat(x), starts, *bases, out[0], out[1])
    return out


@kernel
def _fraction_layer(p_r, p_i, q_r, q_i, out_pr, out_pi, out_qr, out_qi, start, stop):
    pr, pi, qr, qi = (
        p_r[2 * start : 2 * stop],
        p_i[2 * start : 2 * stop],
        q_r[2 * start : 2 * stop],
        q_i[2 * start : 2 * stop],
    )
    yr, yi, zr, zi = out_pr[start:stop], out_pi[start:stop], out_qr[start:stop], out_qi[start:stop]
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        ar, ai = mul(pr[j], pi[j], qr[k], qi[k])
        br, bi = mul(pr[k], pi[k], qr[j], qi[j])
        cr, ci = mul(qr[j], qi[j], qr[k], qi[k])
        yr[i], yi[i] = reduce(fold(ar) + fold(br)), reduce(fold(ai) + fold(bi))
        zr[i], zi[i] = reduce(cr), reduce(ci)


def fraction_layer(p: U64Array, q: U64Array) -> tuple[U64Array, U64Array]:
    """Parents (2, ceil(m/2)) of the fractions p/q (2, m): p[2i] q[2i+1] + p[2i+1] q[2i] and q[2i] q[2i+1].

    The fraction after an odd end is 0/1.
    """
    m = p.shape[1]
    out_p, out_q = (np.empty((2, (m + 1) // 2), np.uint64) for _ in range(2))
    spread(_fraction_layer, m // 2, 1 << 15, *lanes(p, q), *out_p, *out_q)
    if m % 2:
        out_p[:, -1], out_q[:, -1] = p[:, -1], q[:, -1]
    return out_p, out_q


def split_children(x: U64Array, fill: F) -> tuple[U64Array, U64Array]:
    """Contiguous even and odd entries (2, ceil(m/2)) of x (2, m); the entry after an odd end is `fill`."""
    m = x.shape[1]
    odd = np.empty((2, (m + 1) // 2), np.uint64)
    odd[:, : m // 2] = x[:, 1::2]
    if m % 2:
        put(odd, -1, fill)
    return np.ascontiguousarray(x[:, ::2]), odd


@inline
def _fraction_term(ar, ai, br, bi, cr, ci, dr, di, lr, li):
    """Lanes below 2^62 + 16 of a*d + b*c + lam*c*d for c, d at most p and b at most p."""
    ur, ui = mul(dr, di, lr, li)
    sr, si = mul(fold(ur) + br, fold(ui) + bi, cr, ci)
    tr, ti = mul(ar, ai, dr, di)
    return fold(sr) + fold(tr), fold(si) + fold(ti)


@kernel
def _fraction_sums(p0_r, p0_i, p1_r, p1_i, q0_r, q0_i, q1_r, q1_i, e_r, e_i, lr, li, start, stop):
    ar, ai, br, bi = (
        p0_r[2 * start : 2 * stop],
        p0_i[2 * start : 2 * stop],
        p1_r[2 * start : 2 * stop],
        p1_i[2 * start : 2 * stop],
    )
    cr, ci, dr, di = (
        q0_r[2 * start : 2 * stop],
        q0_i[2 * start : 2 * stop],
        q1_r[2 * start : 2 * stop],
        q1_i[2 * start : 2 * stop],
    )
    er, ei = e_r[start:stop], e_i[start:stop]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = z0 = z1 = z2 = z3 = ZERO
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        sr, si = _fraction_term(ar[j], ai[j], br[j], bi[j], cr[j], ci[j], dr[j], di[j], lr, li)
        sr, si = mul(sr, si, er[i], ei[i])
        tr, ti = _fraction_term(
            ar[k] - ar[j] + P,
            ai[k] - ai[j] + P,
            sub(br[k], br[j]),
            sub(bi[k], bi[j]),
            sub(cr[k], cr[j]),
            sub(ci[k], ci[j]),
            sub(dr[k], dr[j]),
            sub(di[k], di[j]),
            lr,
            li,
        )
        tr, ti = mul(tr, ti, er[i], ei[i])
        s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
        t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
        z0, z1, z2, z3 = z0 + (er[i] & M32), z1 + (er[i] >> S32), z2 + (ei[i] & M32), z3 + (ei[i] >> S32)
    return s0, s1, s2, s3, t0, t1, t2, t3, z0, z1, z2, z3


def fraction_round(p: tuple[U64Array, U64Array], q: tuple[U64Array, U64Array], e: U64Array, lam: F) -> tuple[F, F]:
    """Values at 0 and infinity of a round polynomial of sum eq * (p0 q1 + p1 q0 + lam q0 q1).

    p = (p0, p1) and q = (q0, q1), each (2, m), are followed by zeros and ones; e (2, ceil(m/2)) is a prefix
    of the eq table over the variables after the current one.  With g(a, b, c, d) = a d + b c + lam c d,
    t0 = sum_i e[i] g(values at 2i) + lam (1 - sum_i e[i]), tinf = sum_i e[i] g(values at 2i+1 less at 2i).
    """
    m = p[0].shape[1]
    half = m // 2
    results = spread(_fraction_sums, half, 1 << 14, *lanes(*p, *q, e), *scalar(lam))
    t0, tinf, weight = sums(results)
    if m % 2:
        a, b, c, d = (f_item(x, -1) for x in (*p, *q))
        last = f_item(e, half)
        t0 += last * (a * d + b * c + lam * c * d)
        c, d = 1 - c, 1 - d
        tinf += last * (lam * c * d - a * d - b * c)
        weight += last
    return t0 + lam * (1 - weight), tinf
