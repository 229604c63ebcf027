"""Sum-checks of constraints: sums of products of forms, over integer digits and over field elements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zkcert.core.field import U64, F, f_mul_scalar, f_sum

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
    mul,
    reduce,
    rotate,
    spread,
    sub,
    sums,
    total,
)

BIAS_BITS = 62  # members of `grid_sums` stay below 2^62 in magnitude
BLOCK = 128  # groups whose grid values are held at once


@inline
def _product(ar, ai, br, bi):
    """a * b with lanes below 2^61 + 7."""
    zr, zi = mul(ar, ai, br, bi)
    return fold(zr), fold(zi)


@kernel
def _pair_sums(tables, outer, inner, odd, start, stop):
    """Units are pairs of entries."""
    count, length = tables.shape[1] // 2, inner.shape[1]
    a, b = tables[:, :count], tables[:, count:]
    sr, si, tr, ti = np.empty((4, WIDTH), np.uint64)
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
    while start < stop:
        g = start // length
        end = min(stop, (g + 1) * length)
        u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = ZERO
        while start < end:
            width = min(WIDTH, end - start)
            for k in range(count):
                ar, ai = a[0, k, 2 * start : 2 * (start + width)], a[1, k, 2 * start : 2 * (start + width)]
                br, bi = b[0, k, 2 * start : 2 * (start + width)], b[1, k, 2 * start : 2 * (start + width)]
                cr, ci, dr, di = ar[odd:], ai[odd:], br[odd:], bi[odd:]
                for i in range(width):
                    xr, xi = _product(cr[2 * i], ci[2 * i], dr[2 * i], di[2 * i])
                    er, ei = ar[2 * i + 1] - ar[2 * i] + P, ai[2 * i + 1] - ai[2 * i] + P
                    fr, fi = sub(br[2 * i + 1], br[2 * i]), sub(bi[2 * i + 1], bi[2 * i])
                    yr, yi = _product(er, ei, fr, fi)
                    if k == 0:
                        sr[i], si[i], tr[i], ti[i] = xr, xi, yr, yi
                    else:
                        sr[i], si[i] = fold(sr[i] + xr), fold(si[i] + xi)
                        tr[i], ti[i] = fold(tr[i] + yr), fold(ti[i] + yi)
            first = start - g * length
            er, ei = inner[0, first : first + width], inner[1, first : first + width]
            for i in range(width):
                xr, xi = mul(sr[i], si[i], er[i], ei[i])
                yr, yi = mul(tr[i], ti[i], er[i], ei[i])
                u0, u1, u2, u3 = u0 + (xr & M32), u1 + (xr >> S32), u2 + (xi & M32), u3 + (xi >> S32)
                v0, v1, v2, v3 = v0 + (yr & M32), v1 + (yr >> S32), v2 + (yi & M32), v3 + (yi >> S32)
            start += width
        xr, xi = mul(total(u0, u1), total(u2, u3), outer[0, g], outer[1, g])
        yr, yi = mul(total(v0, v1), total(v2, v3), outer[0, g], outer[1, g])
        s0, s1, s2, s3 = s0 + (xr & M32), s1 + (xr >> S32), s2 + (xi & M32), s3 + (xi >> S32)
        t0, t1, t2, t3 = t0 + (yr & M32), t1 + (yr >> S32), t2 + (yi & M32), t3 + (yi >> S32)
    return s0, s1, s2, s3, t0, t1, t2, t3


def pair_sums(tables: U64, outer: U64, inner: U64, odd: int = 0) -> tuple[F, F]:
    """Sums over i of outer[i // length] inner[i % length] times sum_k a_k b_k at entry 2i + odd, and times
    sum_k (a_k[2i + 1] - a_k[2i]) (b_k[2i + 1] - b_k[2i]).

    tables (2, 2 count, 2m): all a_k, then all b_k; outer (2, m / length), inner (2, length).
    """
    _, count, m = tables.shape
    if count % 2 or m % 2 or outer.shape[1] * inner.shape[1] * 2 != m:
        raise ValueError("tables must come in pairs of the same even length, with as many weights")
    args = flat(tables), flat(outer), flat(inner), odd
    t0, tinf = sums(spread(_pair_sums, m // 2, 1 + (1 << 15) // count, *args))
    return t0, tinf


@kernel
def _grid_sums(x, bits, left, right, coef, ends, outer, inner, out):
    """x (n, groups * length << bits); product j of the members is coef[j] x[left[j]] x[right[j]]."""
    n, points, length = len(x), 3**bits, inner.shape[1]
    members = len(ends)
    values = np.empty((n, points, BLOCK), np.int32)
    value = np.empty(BLOCK, np.int64)
    acc = np.empty((members, points, 8), np.uint64)
    bias_r = bias_i = ZERO
    for i in range(length):
        bias_r, bias_i = reduce(bias_r + inner[0, i]), reduce(bias_i + inner[1, i])
    bias_r, bias_i = reduce(rotate(bias_r, np.uint64(1))), reduce(rotate(bias_i, np.uint64(1)))  # 2^62 = 2
    for g in range(outer.shape[1]):
        acc[:] = ZERO
        for first in range(0, length, BLOCK):
            width = min(BLOCK, length - first)
            start = g * length + first
            for d in range(n):
                y, v = x[d, start << bits : (start + width) << bits], values[d]
                if bits == 1:
                    v0, v1, v2 = v[0], v[1], v[2]
                    for i in range(width):
                        y0, y1 = y[2 * i], y[2 * i + 1]
                        v0[i], v1[i], v2[i] = y0, y1, y1 - y0
                else:
                    v0, v1, v2, v3, v4, v5, v6, v7, v8 = v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8]
                    for i in range(width):
                        y0, y1, y2, y3 = y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3]
                        v0[i], v1[i], v2[i] = y0, y1, y1 - y0
                        v3[i], v4[i], v5[i] = y2, y3, y3 - y2
                        v6[i], v7[i], v8[i] = y2 - y0, y3 - y1, y3 - y2 - y1 + y0
            er, ei = inner[0, first : first + width], inner[1, first : first + width]
            for k in range(points):
                j = 0
                for m in range(members):
                    value[:] = 1 << BIAS_BITS
                    while j < ends[m]:
                        p, q, c = values[left[j], k], values[right[j], k], coef[j]
                        if c == 1:
                            for i in range(width):
                                value[i] += np.int64(p[i]) * np.int64(q[i])
                        else:
                            for i in range(width):
                                value[i] += np.int64(p[i]) * np.int64(q[i]) * c
                        j += 1
                    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = ZERO
                    for i in range(width):
                        u = np.uint64(value[i])
                        low, high = u & M32, u >> S32  # high < 2^31, so mid < 2^64
                        e0, e1, f0, f1 = er[i] & M32, er[i] >> S32, ei[i] & M32, ei[i] >> S32
                        z, mid, top = low * e0, low * e1 + high * e0, high * e1
                        a0, a1 = a0 + (z & M32), a1 + (z >> S32) + (mid & M32)
                        a2, a3 = a2 + (mid >> S32) + (top & M32), a3 + (top >> S32)
                        z, mid, top = low * f0, low * f1 + high * f0, high * f1
                        b0, b1 = b0 + (z & M32), b1 + (z >> S32) + (mid & M32)
                        b2, b3 = b2 + (mid >> S32) + (top & M32), b3 + (top >> S32)
                    t = acc[m, k]
                    t[0], t[1], t[2], t[3] = t[0] + a0, t[1] + a1, t[2] + a2, t[3] + a3
                    t[4], t[5], t[6], t[7] = t[4] + b0, t[5] + b1, t[6] + b2, t[7] + b3
        for m in range(members):
            for k in range(points):
                t = acc[m, k]
                # 2^64 = 8 and 2^96 = 2^35
                zr = reduce(total(t[0], t[1]) + rotate(t[2], np.uint64(3)) + rotate(t[3], np.uint64(35)))
                zi = reduce(total(t[4], t[5]) + rotate(t[6], np.uint64(3)) + rotate(t[7], np.uint64(35)))
                zr, zi = mul(sub(zr, bias_r), sub(zi, bias_i), outer[0, g], outer[1, g])
                out[0, m, k], out[1, m, k] = reduce(out[0, m, k] + fold(zr)), reduce(out[1, m, k] + fold(zi))


def grid_sums(
    x: npt.NDArray[np.int32],
    bits: int,
    members: tuple[IntArray, IntArray, IntArray, IntArray],
    outer: U64,
    inner: U64,
) -> U64:
    """Weighted sums (2, members, 3^bits) of integer members at the points {0, 1, infinity}^bits of groups of entries.

    x int32 (n, groups length 2^bits), bits 1 or 2, entries below 2^29 in magnitude; members (left, right, coef, ends),
    int64: member m is sum_{ends[m-1] <= j < ends[m]} coef[j] x[left[j]] x[right[j]], below 2^62 in magnitude at every
    point. Group i weighs outer[i // length] inner[i % length]: outer (2, groups), inner (2, length). "Infinity" is the
    difference of the entries at 1 and 0. The point of the least significant variable varies fastest.
    """
    left, right, coef, ends = members
    out = np.zeros((2, len(ends), 3**bits), np.uint64)
    _grid_sums(x, bits, left, right, coef, ends, outer, inner, out)
    return out


@inline
def _join(a, b, c, d):
    """Canonical residue of a + 2^32 b + 2^31 (c + 2^32 d)."""
    return reduce(fold(a) + rotate(b, S32) + fold(rotate(c, S31) + rotate(d, np.uint64(2))))


@inline
def _biased(x):
    """x + 2^31 of an int32."""
    return np.uint64(np.uint32(x)) ^ np.uint64(1 << 31)


@inline
def _pair(u, v, x0, x1, y0, y1):
    """u x + v y for u, v < 2^32 as four terms of `_join`; x = x0 + 2^31 x1 <= p, y alike."""
    x0, x1, y0, y1 = x0 & M31, x1 & M31, y0 & M31, y1 & M31
    low, mid = u * x0 + v * y0, u * x1 + v * y1
    return low & M32, low >> S32, mid & M32, mid >> S32


@kernel
def _bind_forms(x, bits, limbs, used, offset, out, position):
    """limbs (4, forms, n, 2^bits) of 31 bits: re low, re high, im low, im high."""
    m = x.shape[1] >> bits
    acc = np.empty((8, BLOCK), np.uint64)
    a, b, c, d, p, q, s, t = acc
    planes = np.empty((len(x), 1 << bits, BLOCK), np.uint64)
    for first in range(0, m, BLOCK):
        width = min(BLOCK, m - first)
        for n in range(len(x)):
            y, plane = x[n, first << bits : (first + width) << bits], planes[n]
            if bits == 1:
                u, v = plane[0], plane[1]
                for i in range(width):
                    u[i], v[i] = _biased(y[2 * i]), _biased(y[2 * i + 1])
            else:
                u, v, w, z = plane[0], plane[1], plane[2], plane[3]
                for i in range(width):
                    u[i], v[i], w[i] = _biased(y[4 * i]), _biased(y[4 * i + 1]), _biased(y[4 * i + 2])
                    z[i] = _biased(y[4 * i + 3])
        for k in range(out.shape[1]):
            acc[:] = ZERO
            for n in range(len(x)):
                if not used[k, n]:
                    continue
                for h in range(0, 1 << bits, 2):
                    u, v, f = planes[n, h], planes[n, h + 1], limbs[:, k, n]
                    e0, e1, f0, f1 = f[0, h], f[1, h], f[2, h], f[3, h]
                    g0, g1, h0, h1 = f[0, h + 1], f[1, h + 1], f[2, h + 1], f[3, h + 1]
                    for i in range(width):
                        ui, vi = u[i] & M32, v[i] & M32
                        z0, z1, z2, z3 = _pair(ui, vi, e0, e1, g0, g1)
                        a[i], b[i], c[i], d[i] = a[i] + z0, b[i] + z1, c[i] + z2, d[i] + z3
                        z0, z1, z2, z3 = _pair(ui, vi, f0, f1, h0, h1)
                        p[i], q[i], s[i], t[i] = p[i] + z0, q[i] + z1, s[i] + z2, t[i] + z3
            zr = out[0, k, position + first : position + first + width]
            zi = out[1, k, position + first : position + first + width]
            for i in range(width):
                zr[i] = sub(_join(a[i], b[i], c[i], d[i]), offset[0, k])
                zi[i] = sub(_join(p[i], q[i], s[i], t[i]), offset[1, k])


class FormBinder:
    """Forms (2, forms, n, 2^bits) in groups of entries of n digits, bits 1 or 2, prepared for `bind`."""

    def __init__(self, coefs: U64) -> None:
        self.bits = coefs.shape[3].bit_length() - 1
        self.limbs = np.stack((coefs[0] & M31, coefs[0] >> S31, coefs[1] & M31, coefs[1] >> S31))
        self.offset = f_mul_scalar(f_sum(coefs.reshape(2, coefs.shape[1], -1)), F(1 << 31))
        self.used = coefs.any(axis=(0, 3))

    def bind(self, x: npt.NDArray[np.int32], out: U64, position: int) -> None:
        """out[:, k, position + i] = sum_{n, j} coefs[k, n, j] x[n, (i << bits) + j] for x int32 (n, m << bits)."""
        if not out.flags.carray or position + (x.shape[1] >> self.bits) > out.shape[2]:
            raise ValueError("out must be a writeable contiguous array that holds the range")
        _bind_forms(x, self.bits, self.limbs, self.used, self.offset, out, position)
