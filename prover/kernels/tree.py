"""Fraction trees (LogUp-GKR): levels, and the rounds of their sum-checks.

A level of n fractions p/q is an array uint64 (4, stride >= n) with rows Re p, Im p, Re q, Im q. The children of node i
of the level above are i and i + n/2, and the variables of a sum-check are bound from the most significant: every loop
runs over contiguous pieces, and a table is bound in place, into its own first half.

The eq factor of a round is a pair (outer, inner) of tables: eq(i) = outer[i >> log2 |inner|] inner[i mod |inner|].
"""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, U64Array, f_add, f_mul, f_scale

from .arith import (
    M29,
    M31,
    M32,
    S3,
    S29,
    S31,
    S32,
    TWO_P,
    ZERO,
    IntArray,
    P,
    flat,
    fold,
    inline,
    kernel,
    mul,
    reduce,
    rotate,
    scalar,
    spread,
    sub,
    sums,
    total,
)

GRAIN = 1 << 12  # fewest pairs worth a thread
BLOCK = 128  # entries of all tables at once that fit the L1 cache
Eq = tuple[U64Array, U64Array]

# --------------------------------------------------------------------------------------------- arithmetic


@inline
def _dot4(a, b, c, d, e, f, g, h):
    """A u64 congruent to a*b + c*d + e*f + g*h; all at most p."""
    a0, a1, b0, b1 = a & M32, a >> S32, b & M32, b >> S32
    c0, c1, d0, d1 = c & M32, c >> S32, d & M32, d >> S32
    e0, e1, f0, f1 = e & M32, e >> S32, f & M32, f >> S32
    g0, g1, h0, h1 = g & M32, g >> S32, h & M32, h >> S32
    t, u, v, w = a0 * b0, c0 * d0, e0 * f0, g0 * h0
    mid = a1 * b0 + a0 * b1 + c1 * d0 + c0 * d1 + e1 * f0 + e0 * f1 + g1 * h0 + g0 * h1
    mid += (t >> S32) + (u >> S32) + (v >> S32) + (w >> S32)  # at most 8 (2^29 - 1)(2^32 - 1) + 2^34 < 2^64
    high = a1 * b1 + c1 * d1 + e1 * f1 + g1 * h1
    return (high << S3) + (mid >> S29) + ((mid & M29) << S32) + (t & M32) + (u & M32) + (v & M32) + (w & M32)


@inline
def _mul2(ar, ai, br, bi, cr, ci, dr, di):
    """Lanes, any u64, of a b + c d; all at most p."""
    mr, mi = P - bi, P - di
    return _dot4(ar, br, ai, mr, cr, dr, ci, mi), _dot4(ar, bi, ai, br, cr, di, ci, dr)


@inline
def _minus(base, low, high):
    """The canonical residue of base - low - 2^31 high; low and high int64 below 2^61 in magnitude."""
    return reduce(base + fold(TWO_P - np.uint64(low)) + rotate(TWO_P - np.uint64(high), S31))


@inline
def _weigh(acc, t, er, ei):
    """Add e times the two sums t to the accumulators acc."""
    sr, si = mul(total(t[0], t[1]), total(t[2], t[3]), er, ei)
    tr, ti = mul(total(t[4], t[5]), total(t[6], t[7]), er, ei)
    return (
        acc[0] + (sr & M32),
        acc[1] + (sr >> S32),
        acc[2] + (si & M32),
        acc[3] + (si >> S32),
        acc[4] + (tr & M32),
        acc[5] + (tr >> S32),
        acc[6] + (ti & M32),
        acc[7] + (ti >> S32),
    )


# ------------------------------------------------------------------------------------------------- levels


def new_level(n: int) -> U64Array:
    """An empty level of n fractions; rows of long ones are shifted against each other to lie in other cache sets."""
    return np.empty((4, n + (BLOCK if n >= 32 * BLOCK else 0)), np.uint64)


@kernel
def _first_level(x, half, cuts, consts, out, start, stop):
    for k in range(len(cuts) - 1):
        first, last = max(start, cuts[k]), min(stop, cuts[k + 1])
        if first >= last:
            continue
        ar, ai, br, bi, cr, ci = consts[k, 0], consts[k, 1], consts[k, 2], consts[k, 3], consts[k, 4], consts[k, 5]
        sr, si, n = consts[k, 6] + P, consts[k, 7], np.int64(consts[k, 8])
        ar0, ar1, ai0, ai1 = np.int64(ar & M31), np.int64(ar >> S31), np.int64(ai & M31), np.int64(ai >> S31)
        br0, br1, bi0, bi1 = np.int64(br & M31), np.int64(br >> S31), np.int64(bi & M31), np.int64(bi >> S31)
        y, z = x[first:last], x[half + first : half + last]
        pr, pi, qr, qi = out[0, first:last], out[1, first:last], out[2, first:last], out[3, first:last]
        for i in range(last - first):
            a, b = np.int64(y[i]), np.int64(z[i])
            pr[i], pi[i] = reduce(sr - np.uint64(b + n * a)), si
            qr[i] = _minus(cr, b * ar0 + a * br0 - a * b, b * ar1 + a * br1)
            qi[i] = _minus(ci, b * ai0 + a * bi0, b * ai1 + a * bi1)


def first_level(x: IntArray, cuts: IntArray, left: U64Array, right: U64Array, paired: IntArray) -> U64Array:
    """The level of m fractions above leaves made of integers x int32 (2m,), |x| < 2^28.

    Node i of piece k, cuts[k] <= i < cuts[k+1], has the leaves 1/(left[k] - x[i]) and n/(right[k] - x[m + i]) with
    n = paired[k] in {0, 1}; left, right (2, pieces), paired int64 (pieces,).
    """
    m, n = len(x) // 2, paired.astype(np.uint64)
    consts = np.concatenate([left, right, f_mul(left, right), f_add(right, f_scale(left, n)), n[None]])
    out = new_level(m)
    spread(_first_level, m, 1 << 14, flat(x), m, cuts, np.ascontiguousarray(consts.T), out)
    return out


@kernel
def _parents(a, half, out, start, stop):
    low, high = half + start, half + stop
    ar, ai, br, bi = a[0, start:stop], a[1, start:stop], a[0, low:high], a[1, low:high]
    cr, ci, dr, di = a[2, start:stop], a[3, start:stop], a[2, low:high], a[3, low:high]
    pr, pi, qr, qi = out[0, start:stop], out[1, start:stop], out[2, start:stop], out[3, start:stop]
    for i in range(stop - start):
        sr, si = _mul2(ar[i], ai[i], dr[i], di[i], br[i], bi[i], cr[i], ci[i])
        tr, ti = mul(cr[i], ci[i], dr[i], di[i])
        pr[i], pi[i], qr[i], qi[i] = reduce(sr), reduce(si), reduce(tr), reduce(ti)


def parents(level: U64Array, n: int) -> U64Array:
    """The level of n/2 fractions above a level of n: p0 q1 + p1 q0 over q0 q1."""
    out = new_level(n // 2)
    spread(_parents, n // 2, 1 << 13, level, n // 2, out)
    return out


# ------------------------------------------------------------------------------------------------- rounds


@inline
def _bind(a, row, start, other, width, rr, ri):
    """Bind `width` entries of the table in two rows of a: x += r (y - x), x from `start` and y from `other` on."""
    x, y = a[row, start : start + width], a[row + 1, start : start + width]
    u, v = a[row, other : other + width], a[row + 1, other : other + width]
    for i in range(width):
        hr, hi = mul(u[i] - x[i] + P, v[i] - y[i] + P, rr, ri)
        x[i], y[i] = reduce(fold(hr) + x[i]), reduce(fold(hi) + y[i])


@inline
def _add_scaled(a, at, lr, li, out, to, width):
    """p + lam q of `width` fractions from `at` on, into two rows of out."""
    pr, pi = a[0, at : at + width], a[1, at : at + width]
    qr, qi = a[2, at : at + width], a[3, at : at + width]
    x, y = out[0, to : to + width], out[1, to : to + width]
    for i in range(width):
        hr, hi = mul(qr[i], qi[i], lr, li)
        x[i], y[i] = reduce(fold(hr) + pr[i]), reduce(fold(hi) + pi[i])


@inline
def _fraction_block(acc, a, p, q, half, us, u, gap, e, j, wr, wi, width):
    """acc plus w times the sums of e (p0 q1 + u q0) over pairs of entries `half` apart: at 0 and the differences.

    p0 and q0 start at `p`, q1 at `q`; u at `u` in us, its pairs `gap` apart; e at j.
    """
    ar, ai, br, bi = a[0, p : p + width], a[1, p : p + width], us[0, u : u + width], us[1, u : u + width]
    cr, ci, dr, di = a[2, p : p + width], a[3, p : p + width], a[2, q : q + width], a[3, q : q + width]
    p, q, u = p + half, q + half, u + gap
    kr, ki, lr, li = a[0, p : p + width], a[1, p : p + width], us[0, u : u + width], us[1, u : u + width]
    mr, mi, nr, ni = a[2, p : p + width], a[3, p : p + width], a[2, q : q + width], a[3, q : q + width]
    er, ei = e[0, j : j + width], e[1, j : j + width]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    for i in range(width):
        sr, si = _mul2(ar[i], ai[i], dr[i], di[i], br[i], bi[i], cr[i], ci[i])
        sr, si = mul(fold(sr), fold(si), er[i], ei[i])
        fr, fi = sub(kr[i], ar[i]), sub(ki[i], ai[i])
        gr, gi = sub(nr[i], dr[i]), sub(ni[i], di[i])
        hr, hi = sub(lr[i], br[i]), sub(li[i], bi[i])
        tr, ti = _mul2(fr, fi, gr, gi, hr, hi, sub(mr[i], cr[i]), sub(mi[i], ci[i]))
        tr, ti = mul(fold(tr), fold(ti), er[i], ei[i])
        s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
        t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
    return _weigh(acc, (s0, s1, s2, s3, t0, t1, t2, t3), wr, wi)


@kernel
def _fraction_round(a, gap, half, step, lr, li, rr, ri, outer, inner, start, stop):
    length = inner.shape[1]
    us = np.empty((2, 2 * BLOCK), np.uint64)
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    first = start
    while first < stop:
        last = min(stop, (first // BLOCK + 1) * BLOCK)
        width = last - first
        if step:
            for at in (first, first + half, gap + first, gap + first + half):
                _bind(a, 0, at, at + 2 * half, width, rr, ri)
                _bind(a, 2, at, at + 2 * half, width, rr, ri)
        wr, wi = outer[0, first // length], outer[1, first // length]
        j = first % length
        if step < 2:
            for k in range(2):
                at = gap + first + k * half
                if step:
                    _add_scaled(a, at, lr, li, a, at, width)
                else:
                    _add_scaled(a, at, lr, li, us, k * BLOCK, width)
        if step:
            acc = _fraction_block(acc, a, first, gap + first, half, a, gap + first, half, inner, j, wr, wi, width)
        else:
            acc = _fraction_block(acc, a, first, gap + first, half, us, 0, BLOCK, inner, j, wr, wi, width)
        first = last
    return acc


def fraction_round(level: U64Array, gap: int, half: int, number: int, lam: F, r: F, eq: Eq) -> tuple[F, F]:
    """Round `number` = 0, 1, ... of the sum-check of sum_i eq(i) (p0 q1 + u q0), u = p1 + lam q1.

    The level (4, stride) holds p0, q0 from 0 and p1, q1 from `gap` on. Rounds after the first bind a variable to r, and
    the one numbered 1 also puts u in the place of p1. Returns, of what then are tables of 2 half entries, the sums of
    eq(i) (p0 q1 + u q0) over the first half and over the differences of the second and the first.
    """
    step = min(number, 2)
    return pair(spread(_fraction_round, half, GRAIN, level, gap, half, step, *scalar(lam), *scalar(r), *eq))


def pair(results: list[tuple[int, ...]]) -> tuple[F, F]:
    t0, tinf = sums(results)
    return t0, tinf


@inline
def _product_block(acc, a, p, half, e, j, wr, wi, width):
    """The same for e b0 b1, the products of rows 0, 1 and rows 2, 3."""
    ar, ai, br, bi = a[0, p : p + width], a[1, p : p + width], a[2, p : p + width], a[3, p : p + width]
    p = p + half
    cr, ci, dr, di = a[0, p : p + width], a[1, p : p + width], a[2, p : p + width], a[3, p : p + width]
    er, ei = e[0, j : j + width], e[1, j : j + width]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    for i in range(width):
        sr, si = mul(ar[i], ai[i], br[i], bi[i])
        sr, si = mul(fold(sr), fold(si), er[i], ei[i])
        tr, ti = mul(cr[i] - ar[i] + P, ci[i] - ai[i] + P, sub(dr[i], br[i]), sub(di[i], bi[i]))
        tr, ti = mul(fold(tr), fold(ti), er[i], ei[i])
        s0, s1, s2, s3 = s0 + (sr & M32), s1 + (sr >> S32), s2 + (si & M32), s3 + (si >> S32)
        t0, t1, t2, t3 = t0 + (tr & M32), t1 + (tr >> S32), t2 + (ti & M32), t3 + (ti >> S32)
    return _weigh(acc, (s0, s1, s2, s3, t0, t1, t2, t3), wr, wi)


@kernel
def _product_round(a, half, bind, rr, ri, outer, inner, start, stop):
    length = inner.shape[1]
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    first = start
    while first < stop:
        last = min(stop, (first // BLOCK + 1) * BLOCK)
        width = last - first
        if bind:
            for at in (first, first + half):
                _bind(a, 0, at, at + 2 * half, width, rr, ri)
                _bind(a, 2, at, at + 2 * half, width, rr, ri)
        wr, wi = outer[0, first // length], outer[1, first // length]
        acc = _product_block(acc, a, first, half, inner, first % length, wr, wi, width)
        first = last
    return acc


def pair_round(table: U64Array, half: int, r: F, eq: Eq) -> tuple[F, F]:
    """Bind a variable of two tables b0, b1 of 4 half entries to r, then the sums of a round for eq(i) b0 b1.

    The table (4, stride) has the rows Re b0, Im b0, Re b1, Im b1; see fraction_round.
    """
    return pair(spread(_product_round, half, GRAIN, table, half, True, *scalar(r), *eq))


@kernel
def _leaf_round(x, half, cuts, consts, weights, outer, inner, keep, out, start, stop):
    length, parts = inner.shape[1], weights.shape[1]
    low, high = np.empty((2, BLOCK), np.int64), np.empty((2, BLOCK), np.int64)
    here = np.empty((4, 2 * BLOCK), np.uint64)
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    for k in range(len(cuts) - 1):
        first, end = max(start, cuts[k]), min(stop, cuts[k + 1])
        while first < end:
            last = min(end, (first // BLOCK + 1) * BLOCK)
            width = last - first
            for child in range(2):
                for odd in range(2):
                    low[:, :width] = 0
                    high[:, :width] = 0
                    r0, r1, i0, i1 = low[0, :width], high[0, :width], low[1, :width], high[1, :width]
                    for w in range(parts):
                        vr, vi = weights[0, w], weights[1, w]
                        vr0, vr1, vi0, vi1 = (
                            np.int64(vr & M31),
                            np.int64(vr >> S31),
                            np.int64(vi & M31),
                            np.int64(vi >> S31),
                        )
                        at = ((child * parts + w) * 2 + odd) * half + first
                        y = x[at : at + width]
                        for i in range(width):
                            v = np.int64(y[i])
                            r0[i] += v * vr0
                            r1[i] += v * vr1
                            i0[i] += v * vi0
                            i1[i] += v * vi1
                    br, bi = consts[0, child, odd, k], consts[1, child, odd, k]
                    if keep:
                        to = odd * half + first
                        zr, zi = out[2 * child, to : to + width], out[2 * child + 1, to : to + width]
                    else:
                        to = odd * BLOCK
                        zr, zi = here[2 * child, to : to + width], here[2 * child + 1, to : to + width]
                    for i in range(width):
                        zr[i], zi[i] = _minus(br, r0[i], r1[i]), _minus(bi, i0[i], i1[i])
            wr, wi = outer[0, first // length], outer[1, first // length]
            j = first % length
            if keep:
                acc = _product_block(acc, out, first, half, inner, j, wr, wi, width)
            else:
                acc = _product_block(acc, here, 0, BLOCK, inner, j, wr, wi, width)
            first = last
    return acc


def leaf_round(
    x: IntArray, cuts: IntArray, consts: U64Array, weights: U64Array, eq: Eq, table: U64Array | None
) -> tuple[F, F]:
    """A round for eq(i) b0 b1 straight from integers x int32 (2^(k+2) half,), |x| < 2^28, k <= 3.

    weights (2, 2^k) = w; b_c at i + j half, j in {0, 1}, is consts[c, j, piece] - sum_s w[s] x[((c 2^k + s) 2 + j) half
    + i] for i in [cuts[piece], cuts[piece + 1]), cuts ending at half; consts (2, 2, 2, pieces). The b are kept in
    `table`, rows as in pair_round, if there is one.
    """
    half = len(x) // (4 * weights.shape[1])
    keep = table is not None
    out = table if keep else np.empty((4, 0), np.uint64)
    args = flat(x), half, cuts, flat(consts), flat(weights), *eq, keep, out
    return pair(spread(_leaf_round, half, GRAIN, *args))
