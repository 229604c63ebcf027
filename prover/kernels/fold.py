"""Contractions of int32 digits with vectors of field elements, in exact double precision.

A lane of a field element, taken in (-p/2, p/2), is l0 + 2^20 l1 + 2^40 l2 with |l0|, |l1| <= 2^19 and |l2| <= 2^20.
Sums of products of such limbs with digits stay integers of at most 53 bits for as many terms as `_chunk` admits, so
they are exact in any order, with or without fused operations.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from zkcert.core.field import U64

from .arith import ZERO, P, flat, fold, inline, mul, reduce, residue, rotate, spread

LONGEST_ROW_BITS = 9
ROWS, COLUMNS = 256, 1 << LONGEST_ROW_BITS  # tile of `fold_rows`
S20, S40 = np.uint64(20), np.uint64(40)
HALF = np.uint64((1 << 60) - 1)  # (p - 1) / 2

exact = njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})


@inline
def _join(a, b, c):
    """A u64 below 2^63 congruent to a + 2^20 b + 2^40 c for integers of magnitude at most 2^53."""
    return residue(np.int64(a)) + rotate(residue(np.int64(b)), S20) + rotate(residue(np.int64(c)), S40)


@inline
def _chunk(mask, count):
    """How many products with digits x, `mask` the bitwise or of all x ^ (x >> 31), have an exact sum: count <= 512."""
    return count if mask < (1 << 24) else 4


@inline
def _split(x):
    """The three limbs of a lane."""
    s = np.int64(x) - (np.int64(P) if x > HALF else 0)
    low = ((s + (1 << 19)) & ((1 << 20) - 1)) - (1 << 19)
    s = (s - low) >> 20
    mid = ((s + (1 << 19)) & ((1 << 20) - 1)) - (1 << 19)
    return np.float64(low), np.float64(mid), np.float64((s - mid) >> 20)


@exact
def _outer_limbs(heads, outer, out):
    count = outer.shape[2]
    for row in range(heads.shape[1]):
        for c in range(heads.shape[2]):
            hr, hi = heads[0, row, c], heads[1, row, c]
            for o in range(count):
                zr, zi = mul(outer[0, row, o], outer[1, row, o], hr, hi)
                v = out[row, c * count + o]
                v[0], v[1], v[2] = _split(reduce(zr))
                v[3], v[4], v[5] = _split(reduce(zi))


@exact
def _outer(x, y, width, out):
    n = y.shape[1]
    yr, yi = y[0], y[1]
    for i in range(x.shape[1]):
        hr, hi = x[0, i], x[1, i]
        zr, zi = out[0, i * width : (i + 1) * width], out[1, i * width : (i + 1) * width]
        for j in range(n):
            vr, vi = mul(yr[j], yi[j], hr, hi)
            zr[j], zi[j] = reduce(vr), reduce(vi)
        zr[n:], zi[n:] = ZERO, ZERO


def outer(x: U64, y: U64, width: int) -> U64:
    """x[i] y[j] at i * width + j, zero where j >= n: x (2, m), y (2, n), n <= width; out (2, m * width)."""
    if y.shape[1] > width:
        raise ValueError("the second vector is longer than its place")
    out = np.empty((2, x.shape[1] * width), np.uint64)
    _outer(flat(x), flat(y), width, out)
    return out


@exact
def _sum_outer(scale, x, y, out):
    width = y.shape[2]
    out[:] = ZERO
    for m in range(x.shape[1]):
        yr, yi = y[0, m], y[1, m]
        for i in range(x.shape[2]):
            hr, hi = mul(x[0, m, i], x[1, m, i], scale[0, m], scale[1, m])
            hr, hi = reduce(hr), reduce(hi)
            zr, zi = out[0, i * width : (i + 1) * width], out[1, i * width : (i + 1) * width]
            for j in range(width):
                vr, vi = mul(yr[j], yi[j], hr, hi)
                zr[j], zi[j] = reduce(zr[j] + fold(vr)), reduce(zi[j] + fold(vi))


def sum_outer(scale: U64, x: U64, y: U64) -> U64:
    """sum_m scale[m] x[m, i] y[m, j] at i * k + j: scale (2, m), x (2, m, n), y (2, m, k); out (2, n * k)."""
    out = np.empty((2, x.shape[2] * y.shape[2]), np.uint64)
    _sum_outer(flat(scale), flat(x), flat(y), out)
    return out


@exact
def _fold_rows(x, starts, limbs, inner, out):
    rows, n = limbs.shape[:2]
    acc = np.empty((6, COLUMNS), np.float64)
    a, b, c, d, e, f = acc
    for first in range(0, inner, COLUMNS):
        width = min(COLUMNS, inner - first)
        for low in range(0, n, ROWS):
            high = min(n, low + ROWS)
            mask = np.int32(0)
            for k in range(low, high):
                y = x[starts[k] + first : starts[k] + first + width]
                for j in range(width):
                    mask |= y[j] ^ (y[j] >> 31)
            step = _chunk(mask, ROWS)
            for row in range(rows):
                yr, yi = out[0, row, first : first + width], out[1, row, first : first + width]
                for begin in range(low, high, step):
                    end = min(high, begin + step)
                    acc[:] = 0.0
                    for k in range(begin, end - 3, 4):
                        v = limbs[row, k : k + 4]
                        p = x[starts[k] + first : starts[k] + first + width]
                        q = x[starts[k + 1] + first : starts[k + 1] + first + width]
                        s = x[starts[k + 2] + first : starts[k + 2] + first + width]
                        t = x[starts[k + 3] + first : starts[k + 3] + first + width]
                        pa, pb, pc, pd, pe, pf = v[0, 0], v[0, 1], v[0, 2], v[0, 3], v[0, 4], v[0, 5]
                        qa, qb, qc, qd, qe, qf = v[1, 0], v[1, 1], v[1, 2], v[1, 3], v[1, 4], v[1, 5]
                        sa, sb, sc, sd, se, sf = v[2, 0], v[2, 1], v[2, 2], v[2, 3], v[2, 4], v[2, 5]
                        ta, tb, tc, td, te, tf = v[3, 0], v[3, 1], v[3, 2], v[3, 3], v[3, 4], v[3, 5]
                        for j in range(width):
                            w, y, z, u = np.float64(p[j]), np.float64(q[j]), np.float64(s[j]), np.float64(t[j])
                            a[j] += w * pa + y * qa + z * sa + u * ta
                            b[j] += w * pb + y * qb + z * sb + u * tb
                            c[j] += w * pc + y * qc + z * sc + u * tc
                            d[j] += w * pd + y * qd + z * sd + u * td
                            e[j] += w * pe + y * qe + z * se + u * te
                            f[j] += w * pf + y * qf + z * sf + u * tf
                    for k in range(end - (end - begin) % 4, end):
                        p = x[starts[k] + first : starts[k] + first + width]
                        pa, pb, pc = limbs[row, k, 0], limbs[row, k, 1], limbs[row, k, 2]
                        pd, pe, pf = limbs[row, k, 3], limbs[row, k, 4], limbs[row, k, 5]
                        for j in range(width):
                            w = np.float64(p[j])
                            a[j], b[j], c[j] = a[j] + w * pa, b[j] + w * pb, c[j] + w * pc
                            d[j], e[j], f[j] = d[j] + w * pd, e[j] + w * pe, f[j] + w * pf
                    for j in range(width):
                        yr[j] = reduce(yr[j] + _join(a[j], b[j], c[j]))
                        yi[j] = reduce(yi[j] + _join(d[j], e[j], f[j]))


def fold_rows(x: NDArray[np.int32], starts: NDArray[np.int64], heads: U64, outer: U64, inner: int) -> U64:
    """sum_{c, o} heads[row, c] outer[row, o] x[starts[c, o] + j], shape (2, row, inner), on the calling thread.

    x int32 (any length); starts (columns, o); heads (2, rows, columns); outer (2, rows, o).
    """
    if starts.size and not (starts.min() >= 0 and starts.max() <= len(x) - inner):
        raise ValueError("a row lies outside x")
    limbs = np.empty((heads.shape[1], starts.size, 6), np.float64)
    _outer_limbs(flat(heads), flat(outer), limbs)
    out = np.zeros((2, heads.shape[1], inner), np.uint64)
    _fold_rows(flat(x), flat(starts.ravel()), limbs, inner, out)
    return out


@exact
def _dot_rows(x, starts, limbs, out, start, stop):
    n = limbs.shape[1]
    for i in range(start, stop):
        y = x[starts[i] : starts[i] + n]
        mask = np.int32(0)
        for j in range(n):
            mask |= y[j] ^ (y[j] >> 31)
        step = _chunk(mask, n)
        re = im = ZERO
        for low in range(0, n, step):
            high = min(n, low + step)
            z = y[low:high]
            va, vb, vc = limbs[0, low:high], limbs[1, low:high], limbs[2, low:high]
            vd, ve, vf = limbs[3, low:high], limbs[4, low:high], limbs[5, low:high]
            a = b = c = d = e = f = 0.0
            for j in range(high - low):
                t = np.float64(z[j])
                a, b, c = a + t * va[j], b + t * vb[j], c + t * vc[j]
                d, e, f = d + t * vd[j], e + t * ve[j], f + t * vf[j]
            re, im = reduce(re + _join(a, b, c)), reduce(im + _join(d, e, f))
        out[0, i], out[1, i] = re, im


def dot_rows(x: NDArray[np.int32], starts: NDArray[np.int64], v: U64) -> U64:
    """sum_j v[j] x[starts[i] + j], shape (2, len(starts)): v (2, n), n <= 512."""
    n = v.shape[1]
    if n > COLUMNS:
        raise ValueError(f"a row of {n} digits is too long")
    if starts.size and not (starts.min() >= 0 and starts.max() <= len(x) - n):
        raise ValueError("a row lies outside x")
    limbs = np.empty((1, n, 6), np.float64)
    _outer_limbs(flat(v[:, None, :]), np.array([[[1]], [[0]]], np.uint64), limbs)
    out = np.empty((2, len(starts)), np.uint64)
    spread(_dot_rows, len(starts), 1 + (1 << 16) // n, flat(x), flat(starts), np.ascontiguousarray(limbs[0].T), out)
    return out
