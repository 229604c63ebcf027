"""Fraction trees (LogUp-GKR): levels, and the rounds of their sum-checks.

A level of n fractions p/q is an array uint64 (4, stride >= n) with rows Re p, Im p, Re q, Im q. The children of node i
of the level above are i and i + n/2, and the variables of a sum-check are bound from the most significant: every loop
runs over contiguous pieces, and a table is bound in place, into its own first half.

The eq factor of a round is a pair (outer, inner) of tables: eq(i) = outer[i >> log2 |inner|] inner[i mod |inner|]. The
inner one has at least BLOCK entries unless it is the whole.
"""

from __future__ import annotations

import numpy as np

from zkcert.core.field import U64, F, f_add, f_mul, f_scale

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
from .memory import empty

GRAIN = 1 << 12  # fewest pairs worth a thread
BLOCK = 128  # entries of all tables at once that fit the L1 cache
Eq = tuple[U64, U64]

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


def new_level(n: int) -> U64:
    """An empty level of n fractions; rows of long ones are shifted against each other to lie in other cache sets."""
    return empty(4, n + (BLOCK if n >= 32 * BLOCK else 0))


@inline
def _nodes(x, at, half, consts, out, to, width):
    """Fractions over the leaves `half` apart from x[at] on, of one piece with its constants; see node_constants."""
    ar0, ar1 = np.int64(consts[0] & M31), np.int64(consts[0] >> S31)
    ai0, ai1 = np.int64(consts[1] & M31), np.int64(consts[1] >> S31)
    br0, br1 = np.int64(consts[2] & M31), np.int64(consts[2] >> S31)
    bi0, bi1 = np.int64(consts[3] & M31), np.int64(consts[3] >> S31)
    cr, ci, sr, si, n = consts[4], consts[5], consts[6] + P, consts[7], np.int64(consts[8])
    y, z = x[at : at + width], x[half + at : half + at + width]
    pr, pi, qr, qi = out[0, to : to + width], out[1, to : to + width], out[2, to : to + width], out[3, to : to + width]
    for i in range(width):
        a, b = np.int64(y[i]), np.int64(z[i])
        pr[i], pi[i] = reduce(sr - np.uint64(b + n * a)), si
        qr[i] = _minus(cr, b * ar0 + a * br0 - a * b, b * ar1 + a * br1)
        qi[i] = _minus(ci, b * ai0 + a * bi0, b * ai1 + a * bi1)


def node_constants(left: U64, right: U64, paired: U64) -> U64:
    """Constants (..., 9) of the fractions over two leaves 1/(left - x) and n/(right - y), n = paired in {0, 1}.

    left, right (2, ...), paired (...); x and y are integers below 2^28 in magnitude.
    """
    parts = [left, right, f_mul(left, right), f_add(right, f_scale(left, paired)), paired[None]]
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts), 0, -1))


@kernel
def _upper_level(x, m, cuts, consts, out, start, stop):
    streams = len(consts)
    first_level, second_level = np.empty((4, 4 * BLOCK), np.uint64), np.empty((4, 2 * BLOCK), np.uint64)
    for k in range(len(cuts) - 1):
        first, end = max(start, cuts[k]), min(stop, cuts[k + 1])
        while first < end:
            width = min(BLOCK, end - first)
            for j in range(streams):
                _nodes(x, j * m + first, streams * m, consts[j, k], first_level, j * BLOCK, width)
            if streams == 2:
                _join(first_level, 0, BLOCK, out, first, width)
            else:
                for j in range(2):
                    _join(first_level, j * BLOCK, (j + 2) * BLOCK, second_level, j * BLOCK, width)
                _join(second_level, 0, BLOCK, out, first, width)
            first += width


def upper_level(x: IntArray, cuts: IntArray, consts: U64) -> U64:
    """The second or third level (4, m) above leaves made of integers x int32 (2 streams m,), streams = 2 or 4.

    consts (streams, pieces, 9): those of the nodes of the first level j m + [cuts[k], cuts[k+1]).
    """
    m = len(x) // (2 * len(consts))
    out = new_level(m)
    spread(_upper_level, m, GRAIN, flat(x), m, cuts, consts, out)
    return out


@inline
def _join(a, low, high, out, to, width):
    """Parents of `width` fractions of a from `low` and from `high` on."""
    ar, ai, br, bi = (
        a[0, low : low + width],
        a[1, low : low + width],
        a[0, high : high + width],
        a[1, high : high + width],
    )
    cr, ci, dr, di = (
        a[2, low : low + width],
        a[3, low : low + width],
        a[2, high : high + width],
        a[3, high : high + width],
    )
    pr, pi, qr, qi = out[0, to : to + width], out[1, to : to + width], out[2, to : to + width], out[3, to : to + width]
    for i in range(width):
        sr, si = _mul2(ar[i], ai[i], dr[i], di[i], br[i], bi[i], cr[i], ci[i])
        tr, ti = mul(cr[i], ci[i], dr[i], di[i])
        pr[i], pi[i], qr[i], qi[i] = reduce(sr), reduce(si), reduce(tr), reduce(ti)


@kernel
def _parents(a, half, out, start, stop):
    _join(a, start, half + start, out, start, stop - start)


def parents(level: U64, n: int) -> U64:
    """The level of n/2 fractions above a level of n: p0 q1 + p1 q0 over q0 q1."""
    out = new_level(n // 2)
    spread(_parents, n // 2, 1 << 13, level, n // 2, out)
    return out


# ------------------------------------------------------------------------------------------------- rounds


@inline
def _bind(a, row, at, gap, r, out, to, width):
    """x + r (y - x) for `width` entries x, y of the table in two rows of a, from `at` and from `at` + gap on."""
    x, y = a[row, at : at + width], a[row + 1, at : at + width]
    u, v = a[row, at + gap : at + gap + width], a[row + 1, at + gap : at + gap + width]
    f, g, rr, ri = out[row, to : to + width], out[row + 1, to : to + width], r[0], r[1]
    for i in range(width):
        hr, hi = mul(u[i] - x[i] + P, v[i] - y[i] + P, rr[i], ri[i])
        f[i], g[i] = reduce(fold(hr) + x[i]), reduce(fold(hi) + y[i])


@inline
def _add_scaled(a, at, lam, out, to, width):
    """p + lam q of `width` fractions from `at` on, into two rows of out."""
    pr, pi, qr, qi = a[0, at : at + width], a[1, at : at + width], a[2, at : at + width], a[3, at : at + width]
    x, y, lr, li = out[0, to : to + width], out[1, to : to + width], lam[0], lam[1]
    for i in range(width):
        hr, hi = mul(qr[i], qi[i], lr[i], li[i])
        x[i], y[i] = reduce(fold(hr) + pr[i]), reduce(fold(hi) + pi[i])


@inline
def _store(out, rows, to, a, at, width):
    for row in range(rows):
        x, y = out[row, to : to + width], a[row, at : at + width]
        for i in range(width):
            x[i] = y[i]


@inline
def _broadcast(re, im):
    """A scalar as vectors: the compiler loses sight of the size of the halves of a loop invariant."""
    out = np.empty((2, BLOCK), np.uint64)
    out[0] = re
    out[1] = im
    return out


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
    length, lam, r = inner.shape[1], _broadcast(lr, li), _broadcast(rr, ri)
    here, us = np.empty((4, 4 * BLOCK), np.uint64), np.empty((2, 2 * BLOCK), np.uint64)
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    first = start
    while first < stop:
        last = min(stop, (first // BLOCK + 1) * BLOCK)
        width = last - first
        j, wr, wi = first % length, outer[0, first // length], outer[1, first // length]
        if step:
            for k in range(4):
                at, to = (k >> 1) * gap + (k & 1) * half + first, k * BLOCK
                _bind(a, 0, at, 2 * half, r, here, to, width)
                _bind(a, 2, at, 2 * half, r, here, to, width)
                if step == 1 and k >= 2:
                    _add_scaled(here, to, lam, us, 0, width)
                    _store(here, 2, to, us, 0, width)
                _store(a, 4, at, here, to, width)
            acc = _fraction_block(acc, here, 0, 2 * BLOCK, BLOCK, here, 2 * BLOCK, BLOCK, inner, j, wr, wi, width)
        else:
            for k in range(2):
                _add_scaled(a, gap + k * half + first, lam, us, k * BLOCK, width)
            acc = _fraction_block(acc, a, first, gap + first, half, us, 0, BLOCK, inner, j, wr, wi, width)
        first = last
    return acc


def fraction_round(level: U64, gap: int, half: int, number: int, lam: F, r: F, eq: Eq) -> tuple[F, F]:
    """Round `number` = 0, 1, ... of the sum-check of sum_i eq(i) (p0 q1 + u q0), u = p1 + lam q1.

    The level (4, stride) holds p0, q0 from 0 and p1, q1 from `gap` on. Rounds after the first bind a variable to r, and
    the one numbered 1 also puts u in the place of p1. Returns, of what then are tables of 2 half entries, the sums of
    eq(i) (p0 q1 + u q0) over the first half and over the differences of the second and the first.
    """
    step = min(number, 2)
    return pair(spread(_fraction_round, half, GRAIN, level, gap, half, step, *scalar(lam), *scalar(r), *eq))


@kernel
def _node_round(x, half, cuts, consts, lr, li, rr, ri, outer, inner, keep, out, start, stop):
    length, lam, r = inner.shape[1], _broadcast(lr, li), _broadcast(rr, ri)
    here, us = np.empty((4, 4 * BLOCK), np.uint64), np.empty((2, 2 * BLOCK), np.uint64)
    both = np.empty((4, 2 * BLOCK), np.uint64)
    leaves = len(x) // 2
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    for piece in range(len(cuts) - 1):
        first, end = max(start, cuts[piece]), min(stop, cuts[piece + 1])
        while first < end:
            last = min(end, (first // BLOCK + 1) * BLOCK)
            width = last - first
            for k in range(4):
                to = k * BLOCK
                if keep:
                    for j in range(2):
                        stream = (k >> 1) * 4 + j * 2 + (k & 1)
                        _nodes(x, stream * half + first, leaves, consts[stream, piece], both, j * BLOCK, width)
                    _bind(both, 0, 0, BLOCK, r, here, to, width)
                    _bind(both, 2, 0, BLOCK, r, here, to, width)
                else:
                    _nodes(x, k * half + first, leaves, consts[k, piece], here, to, width)
                if k >= 2:
                    _add_scaled(here, to, lam, us, to - 2 * BLOCK, width)
                if keep:
                    at = k * half + first
                    _store(out, 4, at, here, to, width)
                    if k >= 2:
                        _store(out, 2, at, us, to - 2 * BLOCK, width)
            j, wr, wi = first % length, outer[0, first // length], outer[1, first // length]
            acc = _fraction_block(acc, here, 0, 2 * BLOCK, BLOCK, us, 0, BLOCK, inner, j, wr, wi, width)
            first = last
    return acc


def node_round(x: IntArray, cuts: IntArray, consts: U64, lam: F, r: F, eq: Eq, level: U64 | None) -> tuple[F, F]:
    """The first two rounds of fraction_round over the first level above leaves made of integers x int32.

    consts (4, pieces, 9) or, with a `level`, (8, pieces, 9): those of the nodes k half + [cuts[piece],
    cuts[piece + 1]), cuts ending at half. With a level (4, 4 half) it is the second round, which writes p0, q0 there
    from 0 and u, q1 from 2 half on.
    """
    keep = level is not None
    out = level if keep else np.empty((4, 0), np.uint64)
    half = len(x) // (2 * len(consts))
    args = flat(x), half, cuts, consts, *scalar(lam), *scalar(r), *eq, keep, out
    return pair(spread(_node_round, half, GRAIN, *args))


def pair(results: list[tuple[int, ...]]) -> tuple[F, F]:
    t0, tinf = sums(results)
    return t0, tinf


@inline
def _pair_block(acc, a, p, half, e, j, wr, wi, width):
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
def _pair_round(a, half, rr, ri, outer, inner, start, stop):
    length, r, here = inner.shape[1], _broadcast(rr, ri), np.empty((4, 2 * BLOCK), np.uint64)
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    first = start
    while first < stop:
        last = min(stop, (first // BLOCK + 1) * BLOCK)
        width = last - first
        for k in range(2):
            at, to = k * half + first, k * BLOCK
            _bind(a, 0, at, 2 * half, r, here, to, width)
            _bind(a, 2, at, 2 * half, r, here, to, width)
            _store(a, 4, at, here, to, width)
        j, wr, wi = first % length, outer[0, first // length], outer[1, first // length]
        acc = _pair_block(acc, here, 0, BLOCK, inner, j, wr, wi, width)
        first = last
    return acc


def pair_round(table: U64, half: int, r: F, eq: Eq) -> tuple[F, F]:
    """Bind a variable of two tables b0, b1 of 4 half entries to r, then the sums of a round for eq(i) b0 b1.

    The table (4, stride) has the rows Re b0, Im b0, Re b1, Im b1; see fraction_round.
    """
    return pair(spread(_pair_round, half, GRAIN, table, half, *scalar(r), *eq))


@kernel
def _pair_start(a, half, outer, inner, start, stop):
    length = inner.shape[1]
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    first = start
    while first < stop:
        last = min(stop, (first // BLOCK + 1) * BLOCK)
        j, wr, wi = first % length, outer[0, first // length], outer[1, first // length]
        acc = _pair_block(acc, a, first, half, inner, j, wr, wi, last - first)
        first = last
    return acc


def pair_start(table: U64, half: int, eq: Eq) -> tuple[F, F]:
    """The sums of pair_round over two tables of 2 half entries of which no variable is bound yet."""
    return pair(spread(_pair_start, half, GRAIN, table, half, *eq))


@kernel
def _leaf_round(x, half, cuts, consts, weights, outer, inner, keep, out, start, stop):
    length, parts = inner.shape[1], weights.shape[1]
    h = np.empty((parts, 4, BLOCK), np.int32)
    for w in range(parts):
        for lane in range(2):
            h[w, 2 * lane] = weights[lane, w] & M31
            h[w, 2 * lane + 1] = weights[lane, w] >> S31
    sums_, here = np.empty((4, BLOCK), np.int64), np.empty((4, 2 * BLOCK), np.uint64)
    r0, r1, i0, i1 = sums_[0], sums_[1], sums_[2], sums_[3]
    acc = (ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    for k in range(len(cuts) - 1):
        first, end = max(start, cuts[k]), min(stop, cuts[k + 1])
        while first < end:
            last = min(end, (first // BLOCK + 1) * BLOCK)
            width = last - first
            for child in range(2):
                for odd in range(2):
                    for w in range(parts):
                        at = ((child * parts + w) * 2 + odd) * half + first
                        y, a, b, c, d = x[at : at + width], h[w, 0], h[w, 1], h[w, 2], h[w, 3]
                        if w == 0:
                            for i in range(width):
                                v = np.int64(y[i])
                                r0[i], r1[i], i0[i], i1[i] = v * a[i], v * b[i], v * c[i], v * d[i]
                        else:
                            for i in range(width):
                                v = np.int64(y[i])
                                r0[i], r1[i] = r0[i] + v * a[i], r1[i] + v * b[i]
                                i0[i], i1[i] = i0[i] + v * c[i], i1[i] + v * d[i]
                    br, bi = consts[0, child, odd, k], consts[1, child, odd, k]
                    to = odd * BLOCK
                    zr, zi = here[2 * child, to : to + width], here[2 * child + 1, to : to + width]
                    for i in range(width):
                        zr[i], zi[i] = _minus(br, r0[i], r1[i]), _minus(bi, i0[i], i1[i])
            if keep:
                _store(out, 4, first, here, 0, width)
                _store(out, 4, half + first, here, BLOCK, width)
            j, wr, wi = first % length, outer[0, first // length], outer[1, first // length]
            acc = _pair_block(acc, here, 0, BLOCK, inner, j, wr, wi, width)
            first = last
    return acc


def leaf_round(x: IntArray, cuts: IntArray, consts: U64, weights: U64, eq: Eq, table: U64 | None) -> tuple[F, F]:
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
