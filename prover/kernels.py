"""Compiled prover kernels over F = F_p[i]/(i^2 + 1), p = 2^61 - 1.

Every public function takes and returns canonical arrays and scalars of `zkcert.core.field`: an F array is
uint64 of shape (2, ...).  The compiled functions work on the two lanes as separate contiguous vectors,
multiply by 32-bit halves so that LLVM vectorises the loops, and release the GIL; `_spread` cuts long ranges
into pieces for a pool of THREADS threads.  Sums are accumulated as separate low and high 32-bit halves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite.binding import get_host_cpu_features
from numba import config, njit
from numba.extending import overload

from zkcert.core.field import F, U64Array, f_array, f_item, f_mul_scalar, f_neg, f_sum, root_of_unity

IntArray = npt.NDArray[Any]

THREADS = len(os.sched_getaffinity(0))

_P = np.uint64((1 << 61) - 1)
_2P, _4P = _P + _P, np.uint64(4) * _P
_M29, _M31, _M32 = (np.uint64((1 << k) - 1) for k in (29, 31, 32))
_S2, _S3, _S29, _S31, _S32, _S61 = (np.uint64(k) for k in (2, 3, 29, 31, 32, 61))
_ZERO = np.uint64(0)
_WIDTH = 512  # inner block of the matrix kernels
_ROWS = 16  # rows per block of the encoder

# LLVM halves the vector width on some CPUs for the sake of the clock; these loops gain 1.5x from full width.
_features = get_host_cpu_features()
if _features.get("avx512f") and config.CPU_FEATURES is None:
    _features["prefer-256-bit"] = False
    config.CPU_FEATURES = _features.flatten()

_inline = njit(forceinline=True)
_kernel = njit(nogil=True, cache=True)


# ------------------------------------------------------------------------------------------- arithmetic


@_inline
def _fold(x):
    """A value below 2^61 + 7 congruent to any u64."""
    return (x & _P) + (x >> _S61)


@_inline
def _reduce(x):
    """The canonical residue of any u64."""
    y = (x & _P) + (x >> _S61)
    return min(y, y - _P)


@_inline
def _sub(x, y):
    s = x - y
    return min(s, s + _P)


@_inline
def _dot2(a, b, c, d):
    """A u64 congruent to a*b + c*d; below 2^63 if all are at most p.  One factor of each may be 2^62 + 16."""
    a0, a1, b0, b1 = a & _M32, a >> _S32, b & _M32, b >> _S32
    c0, c1, d0, d1 = c & _M32, c >> _S32, d & _M32, d >> _S32
    low, low2 = a0 * b0, c0 * d0
    mid = a1 * b0 + a0 * b1 + c1 * d0 + c0 * d1 + (low >> _S32) + (low2 >> _S32)
    high = a1 * b1 + c1 * d1
    return (high << _S3) + (mid >> _S29) + ((mid & _M29) << _S32) + (low & _M32) + (low2 & _M32)


@_inline
def _mul(ar, ai, br, bi):
    """Lanes, any u64, of (ar + i ai)(br + i bi) for a at most 2^62 + 16 and b at most p."""
    return _dot2(ar, br, ai, _P - bi), _dot2(ar, bi, ai, br)


@_inline
def _rotate(x, s):
    """x * 2^s as a value below 2^61 + 7, for any u64 x and s < 61."""
    y = _reduce(x)
    return ((y << s) & _P) + (y >> (_S61 - s))


# ---------------------------------------------------------------------------------- threads and conversion


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


os.register_at_fork(after_in_child=_pool.cache_clear)


def _spread(kernel: Callable[..., Any], size: int, grain: int, *args: Any) -> list[Any]:
    """The values of kernel(*args, start, stop) over pieces of at least `grain` units that tile [0, size)."""
    pieces = min(2 * THREADS, size // grain) if THREADS > 1 else 1
    if pieces <= 1:
        return [kernel(*args, 0, size)]
    cuts = [size * k // pieces for k in range(pieces + 1)]
    return list(_pool().map(lambda start, stop: kernel(*args, start, stop), cuts[:-1], cuts[1:]))


def _sums(results: list[tuple[int, ...]]) -> list[F]:
    """The k scalars whose accumulators (re low, re high, im low, im high) * k each piece returned."""
    totals = [sum(column) for column in zip(*results, strict=True)]
    groups = zip(*[iter(totals)] * 4, strict=True)
    return [F(t0 + (t1 << 32), t2 + (t3 << 32)) for t0, t1, t2, t3 in groups]


def _flat(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """x itself if contiguous and writeable, so that each kernel is compiled for one array type, or a copy."""
    return x if x.flags.carray else x.copy()


def _lanes(*arrays: U64Array) -> list[U64Array]:
    return [_flat(lane) for x in arrays for lane in (x[0], x[1])]


def _scalar(r: F) -> tuple[np.uint64, np.uint64]:
    return np.uint64(r.re), np.uint64(r.im)


def _put(x: U64Array, index: int, value: F) -> None:
    x[0, index], x[1, index] = value.re, value.im


# ------------------------------------------------------------------------------------ multilinear tables


@_kernel
def _eq_expand(tr, ti, rr, ri, out_r, out_i, start, stop):
    xr, xi = tr[start:stop], ti[start:stop]
    yr, yi = out_r[2 * start : 2 * stop], out_i[2 * start : 2 * stop]
    for i in range(stop - start):
        hr, hi = _mul(xr[i], xi[i], rr, ri)
        hr, hi = _reduce(hr), _reduce(hi)
        yr[2 * i], yi[2 * i] = _sub(xr[i], hr), _sub(xi[i], hi)
        yr[2 * i + 1], yi[2 * i + 1] = hr, hi


def eq_levels(point: Sequence[F], length: int, skip_last: bool = False) -> list[U64Array]:
    """Prefixes of the eq tables of all prefixes of a point of n coordinates.

    Entry j, 0 <= j <= n, is eq_table(point[:j])[:, :ceil(length / 2^(n-j))]; skip_last leaves out j = n.
    """
    n = len(point)
    if not 0 < length <= 1 << n:
        raise ValueError("length must be in [1, 2^n]")
    tables = [f_array([F.ONE])] if n or not skip_last else []
    for j in range(1, n + (not skip_last)):
        r, parent = point[j - 1], tables[-1]
        size = -(-length >> (n - j))
        table = np.empty((2, size), np.uint64)
        _spread(_eq_expand, size // 2, 1 << 16, *_lanes(parent), *_scalar(r), table[0], table[1])
        if size % 2:
            _put(table, -1, f_item(parent, -1) * (1 - r))
        tables.append(table)
    return tables


@_kernel
def _bind(x_r, x_i, rr, ri, out_r, out_i, start, stop):
    xr, xi = x_r[2 * start : 2 * stop], x_i[2 * start : 2 * stop]
    yr, yi = out_r[start:stop], out_i[start:stop]
    for i in range(stop - start):
        hr, hi = _mul(xr[2 * i + 1] - xr[2 * i] + _P, xi[2 * i + 1] - xi[2 * i] + _P, rr, ri)
        yr[i], yi[i] = _reduce(_fold(hr) + xr[2 * i]), _reduce(_fold(hi) + xi[2 * i])


def bind(x: U64Array, r: F, fill: F) -> U64Array:
    """x (2, m) -> (2, ceil(m/2)): x[2i] + r (x[2i+1] - x[2i]); the element after an odd end is `fill`."""
    m = x.shape[1]
    out = np.empty((2, (m + 1) // 2), np.uint64)
    _spread(_bind, m // 2, 1 << 16, *_lanes(x), *_scalar(r), out[0], out[1])
    if m % 2:
        last = f_item(x, -1)
        _put(out, -1, last + r * (fill - last))
    return out


@_inline
def _residue(x):
    """Canonical residue of an int64 of absolute value below p."""
    return np.uint64(x) + (np.uint64(x >> 63) & _P)


@_kernel
def _bind_int(x, rr, ri, out_r, out_i, start, stop):
    y = x[2 * start : 2 * stop]
    yr, yi = out_r[start:stop], out_i[start:stop]
    for i in range(stop - start):
        even, odd = np.int64(y[2 * i]), np.int64(y[2 * i + 1])
        d = _residue(odd - even)
        hr, hi = _dot2(d, rr, _ZERO, _ZERO), _dot2(d, ri, _ZERO, _ZERO)
        yr[i], yi[i] = _reduce(_fold(hr) + _residue(even)), _reduce(hi)


def bind_int(x: IntArray, r: F) -> U64Array:
    """bind for signed int32 or int64 base values x (m,), |x| < 2^60, with fill 0: (2, ceil(m/2))."""
    m = len(x)
    out = np.empty((2, (m + 1) // 2), np.uint64)
    _spread(_bind_int, m // 2, 1 << 16, _flat(x), *_scalar(r), out[0], out[1])
    if m % 2:
        _put(out, -1, (1 - r) * int(x[-1]))
    return out


# ------------------------------------------------------------------------------------- product sum-check


@_inline
def _product_pair(a0r, a0i, a1r, a1i, b0r, b0i, b1r, b1i):
    """Lanes, any u64, of a0*b0 and (a1 - a0)(b1 - b0)."""
    sr, si = _mul(a0r, a0i, b0r, b0i)
    tr, ti = _mul(a1r - a0r + _P, a1i - a0i + _P, _sub(b1r, b0r), _sub(b1i, b0i))
    return sr, si, tr, ti


@_kernel
def _product_sums(a_r, a_i, b_r, b_i, start, stop):
    ar, ai = a_r[2 * start : 2 * stop], a_i[2 * start : 2 * stop]
    br, bi = b_r[2 * start : 2 * stop], b_i[2 * start : 2 * stop]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = _ZERO
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        sr, si, tr, ti = _product_pair(ar[j], ai[j], ar[k], ai[k], br[j], bi[j], br[k], bi[k])
        s0, s1, s2, s3 = s0 + (sr & _M32), s1 + (sr >> _S32), s2 + (si & _M32), s3 + (si >> _S32)
        t0, t1, t2, t3 = t0 + (tr & _M32), t1 + (tr >> _S32), t2 + (ti & _M32), t3 + (ti >> _S32)
    return s0, s1, s2, s3, t0, t1, t2, t3


@_inline
def _total(low, high):
    """Canonical residue of low + 2^32 high."""
    return _reduce(_fold(low) + _rotate(high, _S32))


@_kernel
def _product_sums_eq(e_r, e_i, shift, a_r, a_i, b_r, b_i, start, stop):
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = _ZERO
    if shift >= 7:  # one multiplication by e per group
        while start < stop:
            g = start >> shift
            end = min(stop, (g + 1) << shift)
            u0, u1, u2, u3, v0, v1, v2, v3 = _product_sums(a_r, a_i, b_r, b_i, start, end)
            sr, si = _mul(_total(u0, u1), _total(u2, u3), e_r[g], e_i[g])
            tr, ti = _mul(_total(v0, v1), _total(v2, v3), e_r[g], e_i[g])
            s0, s1, s2, s3 = s0 + (sr & _M32), s1 + (sr >> _S32), s2 + (si & _M32), s3 + (si >> _S32)
            t0, t1, t2, t3 = t0 + (tr & _M32), t1 + (tr >> _S32), t2 + (ti & _M32), t3 + (ti >> _S32)
            start = end
        return s0, s1, s2, s3, t0, t1, t2, t3
    er, ei = np.empty(_WIDTH, np.uint64), np.empty(_WIDTH, np.uint64)
    for first in range(start, stop, _WIDTH):
        width = min(_WIDTH, stop - first)
        for i in range(width):
            er[i], ei[i] = e_r[(first + i) >> shift], e_i[(first + i) >> shift]
        ar, ai = a_r[2 * first : 2 * (first + width)], a_i[2 * first : 2 * (first + width)]
        br, bi = b_r[2 * first : 2 * (first + width)], b_i[2 * first : 2 * (first + width)]
        for i in range(width):
            j, k = 2 * i, 2 * i + 1
            sr, si, tr, ti = _product_pair(ar[j], ai[j], ar[k], ai[k], br[j], bi[j], br[k], bi[k])
            sr, si = _mul(_fold(sr), _fold(si), er[i], ei[i])
            tr, ti = _mul(_fold(tr), _fold(ti), er[i], ei[i])
            s0, s1, s2, s3 = s0 + (sr & _M32), s1 + (sr >> _S32), s2 + (si & _M32), s3 + (si >> _S32)
            t0, t1, t2, t3 = t0 + (tr & _M32), t1 + (tr >> _S32), t2 + (ti & _M32), t3 + (ti >> _S32)
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
        t0, tinf = _sums(_spread(_product_sums, half, 1 << 15, *_lanes(a, b)))
    else:
        t0, tinf = _sums(_spread(_product_sums_eq, half, 1 << 14, *_lanes(e), shift, *_lanes(a, b)))
    return t0, tinf


@_kernel
def _product_sums_int(x, w_r, w_i, start, stop):
    y, wr, wi = x[2 * start : 2 * stop], w_r[2 * start : 2 * stop], w_i[2 * start : 2 * stop]
    # w = low + 2^31 high; all products are signed 32 x 32 bits, their sums of two stay within 63 bits
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0
    for i in range(stop - start):
        even, odd = np.int64(y[2 * i]), np.int64(y[2 * i + 1])
        vr, vi = wr[2 * i], wi[2 * i]
        dr, di = _sub(wr[2 * i + 1], vr), _sub(wi[2 * i + 1], vi)
        a, b = even * np.int64(vr & _M31), even * np.int64(vr >> _S31)
        c, d = even * np.int64(vi & _M31), even * np.int64(vi >> _S31)
        s0, s1, s2, s3 = s0 + (a & 0xFFFFFFFF), s1 + (a >> 32), s2 + (b & 0xFFFFFFFF), s3 + (b >> 32)
        s4, s5, s6, s7 = s4 + (c & 0xFFFFFFFF), s5 + (c >> 32), s6 + (d & 0xFFFFFFFF), s7 + (d >> 32)
        a, b = np.int64(dr & _M31), np.int64(dr >> _S31)
        c, d = np.int64(di & _M31), np.int64(di >> _S31)
        a, b, c, d = odd * a - even * a, odd * b - even * b, odd * c - even * c, odd * d - even * d
        t0, t1, t2, t3 = t0 + (a & 0xFFFFFFFF), t1 + (a >> 32), t2 + (b & 0xFFFFFFFF), t3 + (b >> 32)
        t4, t5, t6, t7 = t4 + (c & 0xFFFFFFFF), t5 + (c >> 32), t6 + (d & 0xFFFFFFFF), t7 + (d >> 32)
    return s0, s1, s2, s3, s4, s5, s6, s7, t0, t1, t2, t3, t4, t5, t6, t7


def product_round_int(x: IntArray, w: U64Array) -> tuple[F, F]:
    """product_round without e for signed int32 base values x (m,) and w (2, m); 0 follows an odd end."""
    results = _spread(_product_sums_int, len(x) // 2, 1 << 15, _flat(x), *_lanes(w))
    totals = [sum(column) for column in zip(*results, strict=True)]
    groups = zip(*[iter(totals)] * 4, strict=True)
    v = [t0 + (t1 << 32) + (t2 << 31) + (t3 << 63) for t0, t1, t2, t3 in groups]
    last = f_item(w, -1) * int(x[-1]) if len(x) % 2 else F.ZERO
    return F(v[0], v[1]) + last, F(v[2], v[3]) + last


# ------------------------------------------------------------------------------------------ fraction tree


@_kernel
def _leaf_denominators(x, seg_starts, base_r, base_i, out_r, out_i, start, stop):
    for s in range(len(seg_starts)):
        first = max(start, seg_starts[s])
        last = min(stop, seg_starts[s + 1]) if s + 1 < len(seg_starts) else stop
        if first < last:
            y, qr, qi = x[first:last], out_r[first:last], out_i[first:last]
            br, bi = base_r[s] + _P, base_i[s]
            for i in range(last - first):
                qr[i] = _reduce(br - np.uint64(np.int64(y[i])))
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
    _spread(_leaf_denominators, len(x), 1 << 17, _flat(x), starts, *bases, out[0], out[1])
    return out


@_kernel
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
        ar, ai = _mul(pr[j], pi[j], qr[k], qi[k])
        br, bi = _mul(pr[k], pi[k], qr[j], qi[j])
        cr, ci = _mul(qr[j], qi[j], qr[k], qi[k])
        yr[i], yi[i] = _reduce(_fold(ar) + _fold(br)), _reduce(_fold(ai) + _fold(bi))
        zr[i], zi[i] = _reduce(cr), _reduce(ci)


def fraction_layer(p: U64Array, q: U64Array) -> tuple[U64Array, U64Array]:
    """Parents (2, ceil(m/2)) of the fractions p/q (2, m): p[2i] q[2i+1] + p[2i+1] q[2i] and q[2i] q[2i+1].

    The fraction after an odd end is 0/1.
    """
    m = p.shape[1]
    out_p, out_q = (np.empty((2, (m + 1) // 2), np.uint64) for _ in range(2))
    _spread(_fraction_layer, m // 2, 1 << 15, *_lanes(p, q), *out_p, *out_q)
    if m % 2:
        out_p[:, -1], out_q[:, -1] = p[:, -1], q[:, -1]
    return out_p, out_q


def split_children(x: U64Array, fill: F) -> tuple[U64Array, U64Array]:
    """Contiguous even and odd entries (2, ceil(m/2)) of x (2, m); the entry after an odd end is `fill`."""
    m = x.shape[1]
    odd = np.empty((2, (m + 1) // 2), np.uint64)
    odd[:, : m // 2] = x[:, 1::2]
    if m % 2:
        _put(odd, -1, fill)
    return np.ascontiguousarray(x[:, ::2]), odd


@_inline
def _fraction_term(ar, ai, br, bi, cr, ci, dr, di, lr, li):
    """Lanes below 2^62 + 16 of a*d + b*c + lam*c*d for c, d at most p and b at most p."""
    ur, ui = _mul(dr, di, lr, li)
    sr, si = _mul(_fold(ur) + br, _fold(ui) + bi, cr, ci)
    tr, ti = _mul(ar, ai, dr, di)
    return _fold(sr) + _fold(tr), _fold(si) + _fold(ti)


@_kernel
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
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = z0 = z1 = z2 = z3 = _ZERO
    for i in range(stop - start):
        j, k = 2 * i, 2 * i + 1
        sr, si = _fraction_term(ar[j], ai[j], br[j], bi[j], cr[j], ci[j], dr[j], di[j], lr, li)
        sr, si = _mul(sr, si, er[i], ei[i])
        tr, ti = _fraction_term(
            ar[k] - ar[j] + _P,
            ai[k] - ai[j] + _P,
            _sub(br[k], br[j]),
            _sub(bi[k], bi[j]),
            _sub(cr[k], cr[j]),
            _sub(ci[k], ci[j]),
            _sub(dr[k], dr[j]),
            _sub(di[k], di[j]),
            lr,
            li,
        )
        tr, ti = _mul(tr, ti, er[i], ei[i])
        s0, s1, s2, s3 = s0 + (sr & _M32), s1 + (sr >> _S32), s2 + (si & _M32), s3 + (si >> _S32)
        t0, t1, t2, t3 = t0 + (tr & _M32), t1 + (tr >> _S32), t2 + (ti & _M32), t3 + (ti >> _S32)
        z0, z1, z2, z3 = z0 + (er[i] & _M32), z1 + (er[i] >> _S32), z2 + (ei[i] & _M32), z3 + (ei[i] >> _S32)
    return s0, s1, s2, s3, t0, t1, t2, t3, z0, z1, z2, z3


def fraction_round(p: tuple[U64Array, U64Array], q: tuple[U64Array, U64Array], e: U64Array, lam: F) -> tuple[F, F]:
    """Values at 0 and infinity of a round polynomial of sum eq * (p0 q1 + p1 q0 + lam q0 q1).

    p = (p0, p1) and q = (q0, q1), each (2, m), are followed by zeros and ones; e (2, ceil(m/2)) is a prefix
    of the eq table over the variables after the current one.  With g(a, b, c, d) = a d + b c + lam c d,
    t0 = sum_i e[i] g(values at 2i) + lam (1 - sum_i e[i]), tinf = sum_i e[i] g(values at 2i+1 less at 2i).
    """
    m = p[0].shape[1]
    half = m // 2
    results = _spread(_fraction_sums, half, 1 << 14, *_lanes(*p, *q, e), *_scalar(lam))
    t0, tinf, weight = _sums(results)
    if m % 2:
        a, b, c, d = (f_item(x, -1) for x in (*p, *q))
        last = f_item(e, half)
        t0 += last * (a * d + b * c + lam * c * d)
        c, d = 1 - c, 1 - d
        tinf += last * (lam * c * d - a * d - b * c)
        weight += last
    return t0 + lam * (1 - weight), tinf


# ------------------------------------------------------------------------------------ Reed-Solomon encoder


@_inline
def _reverse_bits(x, n):
    y = 0
    for _ in range(n):
        y = y << 1 | x & 1
        x >>= 1
    return y


@_kernel
def _butterflies(w, log_size, level, log_step, offset, log_n, tw_r, tw_i):
    """Decimation-in-time stages `level` .. log_size on the rows (re, im lanes of _ROWS) of w, in place.

    Row k stands at index offset + 2^log_step k of a transform of length 2^log_n.
    """
    size = 1 << log_size
    if (log_size - level) % 2:
        h = 1 << level
        for base in range(0, size, 2 * h):
            for k in range(h):
                t = (offset + (k << log_step)) << (log_n - log_step - level - 1)
                wr, wi = tw_r[t], tw_i[t]
                x0, x1 = w[base + k], w[base + k + h]
                for r in range(_ROWS):
                    ar, ai = x0[r], x0[_ROWS + r]
                    br, bi = _mul(x1[r], x1[_ROWS + r], wr, wi)
                    br, bi = _fold(br), _fold(bi)
                    x0[r], x0[_ROWS + r] = _reduce(ar + br), _reduce(ai + bi)
                    x1[r], x1[_ROWS + r] = _reduce(ar + _2P - br), _reduce(ai + _2P - bi)
        level += 1
    while level < log_size:
        h = 1 << level
        for base in range(0, size, 4 * h):
            for k in range(h):
                t = (offset + (k << log_step)) << (log_n - log_step - level - 2)
                ur, ui, vr, vi, wr, wi = tw_r[2 * t], tw_i[2 * t], tw_r[t], tw_i[t], tw_r[3 * t], tw_i[3 * t]
                i = base + k
                x0, x1, x2, x3 = w[i], w[i + h], w[i + 2 * h], w[i + 3 * h]
                for r in range(_ROWS):
                    ar, ai = x0[r], x0[_ROWS + r]
                    br, bi = _mul(x1[r], x1[_ROWS + r], ur, ui)
                    cr, ci = _mul(x2[r], x2[_ROWS + r], vr, vi)
                    dr, di = _mul(x3[r], x3[_ROWS + r], wr, wi)
                    br, bi, cr, ci, dr, di = _fold(br), _fold(bi), _fold(cr), _fold(ci), _fold(dr), _fold(di)
                    er, ei, fr, fi = ar + br, ai + bi, ar + _2P - br, ai + _2P - bi
                    gr, gi = cr + dr, ci + di
                    hr, hi = di + _2P - ci, cr + _2P - dr  # i_unit (c - d)
                    x0[r], x0[_ROWS + r] = _reduce(er + gr), _reduce(ei + gi)
                    x1[r], x1[_ROWS + r] = _reduce(fr + hr), _reduce(fi + hi)
                    x2[r], x2[_ROWS + r] = _reduce(er + _4P - gr), _reduce(ei + _4P - gi)
                    x3[r], x3[_ROWS + r] = _reduce(fr + _4P - hr), _reduce(fi + _4P - hi)
        level += 2


@_kernel
def _encode(m_r, m_i, log_n, log_1, tw_r, tw_i, out, start, stop):
    """Encode row blocks start .. stop: transforms of 2^log_1 consecutive points, then across those blocks."""
    rows, m = m_r.shape
    log_2 = log_n - log_1
    n1, n2 = 1 << log_1, 1 << log_2
    pad = 0  # of each 2^pad bit-reversed coefficients all but the first are zero
    while m << (pad + 1) <= 1 << log_n and pad < log_1:
        pad += 1
    columns = np.zeros((m, 2 * _ROWS), np.uint64)
    blocks = np.empty((n2, n1 + 1, 2 * _ROWS), np.uint64)  # + 1 avoids strides of a power of two
    work = np.empty((max(n1, n2), 2 * _ROWS), np.uint64)
    for block in range(start, stop):
        row = block * _ROWS
        live = min(_ROWS, rows - row)
        for j in range(0, m, 64):
            for r in range(live):
                x, y = m_r[row + r, j : j + 64], m_i[row + r, j : j + 64]
                z = columns[j : j + 64]
                for k in range(len(x)):
                    z[k, r], z[k, _ROWS + r] = x[k], y[k]
        for unit in range(n2 + n1):
            if unit < n2:
                t, size, level, step, offset = unit, log_1, pad, 0, 0
                for k in range(0, n1, 1 << pad):
                    j = _reverse_bits(t * n1 + k, log_n)
                    for c in range(k, k + (1 << pad)):
                        for r in range(2 * _ROWS):
                            work[c, r] = columns[j, r] if j < m else _ZERO
            else:
                t, size, level, step, offset = unit - n2, log_2, 0, log_1, unit - n2
                for k in range(n2):
                    for r in range(2 * _ROWS):
                        work[k, r] = blocks[k, t, r]
            _butterflies(work, size, level, step, offset, log_n, tw_r, tw_i)
            if unit < n2:
                for k in range(n1):
                    for r in range(2 * _ROWS):
                        blocks[t, k, r] = work[k, r]
            else:
                for k in range(n2):
                    z0, z1 = out[k * n1 + t, 0, row:], out[k * n1 + t, 1, row:]
                    for r in range(live):
                        z0[r], z1[r] = work[k, r], work[k, _ROWS + r]


@lru_cache(maxsize=4)
def _twiddles(log_n: int) -> U64Array:
    """w^j, j < n, for w = root_of_unity(log_n)."""
    table = f_array([F.ONE])
    for k in range(log_n):
        table = np.concatenate((table, f_mul_scalar(table, root_of_unity(log_n) ** (1 << k))), axis=1)
    return table


def encode_rows(m_re: U64Array, m_im: U64Array, log_n: int) -> U64Array:
    """Reed-Solomon encode rows of coefficients, lanes (R, m) with m <= 2^log_n, to out (2^log_n, 2, R).

    out[j, :, r] is the value of the polynomial of row r at root_of_unity(log_n)^j.  A thread takes 16 rows.
    """
    rows, m = m_re.shape
    if m > 1 << log_n:
        raise ValueError("more coefficients than points")
    out = np.empty((1 << log_n, 2, rows), np.uint64)
    log_1 = max((log_n + 1) // 2, min(log_n, 9))
    _spread(_encode, -(-rows // _ROWS), 1, _flat(m_re), _flat(m_im), log_n, log_1, *_twiddles(log_n), out)
    return out


# ----------------------------------------------------------------------------- linear combinations of rows


def _biased(x):
    """x + 2^31 of an int32, x + 2^45 of an int64 |x| < 2^45, as u64."""


@overload(_biased)
def _biased_overload(x):
    if x.bitwidth == 32:
        return lambda x: np.uint64(np.uint32(x)) ^ np.uint64(1 << 31)
    return lambda x: np.uint64(x + (1 << 45))


@_inline
def _join(a, b, c, d, g):
    """Canonical residue of a + 2^32 b + 2^31 (c + 2^32 d) + 4 g."""
    return _reduce(_fold(a) + _rotate(b, _S32) + _fold(_rotate(c, _S31) + _rotate(d, _S2) + _rotate(g, _S2)))


@_inline
def _pair(x, y, a0, a1, b0, b1):
    """Terms of the accumulators of `_join` for x*a + y*b: x, y < 2^46; a = (a1 << 31) + a0 <= p, b alike."""
    x0, x1, y0, y1 = x & _M32, x >> _S32, y & _M32, y >> _S32
    a0, a1, b0, b1 = a0 & _M31, a1 & _M31, b0 & _M31, b1 & _M31
    low, mid = x0 * a0 + y0 * b0, x0 * a1 + y0 * b1
    top = x1 * a0 + y1 * b0  # of weight 2^32
    return (
        low & _M32,
        (low >> _S32) + (top & _M32),
        mid & _M32,
        mid >> _S32,
        x1 * a1 + y1 * b1 + ((top >> _S32) << np.uint64(1)),
    )


def _limbs(v: U64Array) -> U64Array:
    """Limbs (4, ...) of 31 bits of the lanes of v (2, ...): re low, re high, im low, im high."""
    return np.stack((v[0] & _M31, v[0] >> _S31, v[1] & _M31, v[1] >> _S31))


@_kernel
def _fold_int(x, v, offset, out, start, stop):
    _, n, inner = x.shape
    rows, tiles = v.shape[1], -(-inner // _WIDTH)
    acc = np.empty((10, _WIDTH), np.uint64)
    a, b, c, d, g, p, q, s, t, h = acc
    for task in range(start, stop):
        o, first, row = task // (rows * tiles), task // rows % tiles * _WIDTH, task % rows
        width = min(_WIDTH, inner - first)
        acc[:] = _ZERO
        for k in range(0, n, 2):
            xs, ys = x[o, k, first : first + width], x[o, min(k + 1, n - 1), first : first + width]
            a0, a1, c0, c1 = v[0, row, k], v[1, row, k], v[2, row, k], v[3, row, k]
            b0 = b1 = d0 = d1 = _ZERO
            if k + 1 < n:
                b0, b1, d0, d1 = v[0, row, k + 1], v[1, row, k + 1], v[2, row, k + 1], v[3, row, k + 1]
            for j in range(width):
                xj, yj = _biased(xs[j]), _biased(ys[j])
                z0, z1, z2, z3, z4 = _pair(xj, yj, a0, a1, b0, b1)
                a[j], b[j], c[j], d[j], g[j] = a[j] + z0, b[j] + z1, c[j] + z2, d[j] + z3, g[j] + z4
                z0, z1, z2, z3, z4 = _pair(xj, yj, c0, c1, d0, d1)
                p[j], q[j], s[j], t[j], h[j] = p[j] + z0, q[j] + z1, s[j] + z2, t[j] + z3, h[j] + z4
        yr, yi = out[0, o, row, first : first + width], out[1, o, row, first : first + width]
        for j in range(width):
            yr[j] = _sub(_join(a[j], b[j], c[j], d[j], g[j]), offset[0, row])
            yi[j] = _sub(_join(p[j], q[j], s[j], t[j], h[j]), offset[1, row])


@_kernel
def _fold_int_dot(x, v, offset, out, start, stop):
    n, rows = x.shape[1], v.shape[1]
    half = n // 2
    for task in range(start, stop):
        i, row = task // rows, task % rows
        xs, ys = x[i, :half], x[i, half : 2 * half]
        a0, a1, c0, c1 = v[0, row, :half], v[1, row, :half], v[2, row, :half], v[3, row, :half]
        b0, b1 = v[0, row, half : 2 * half], v[1, row, half : 2 * half]
        d0, d1 = v[2, row, half : 2 * half], v[3, row, half : 2 * half]
        a = b = c = d = g = p = q = s = t = h = _ZERO
        for j in range(half):
            xj, yj = _biased(xs[j]), _biased(ys[j])
            z0, z1, z2, z3, z4 = _pair(xj, yj, a0[j], a1[j], b0[j], b1[j])
            a, b, c, d, g = a + z0, b + z1, c + z2, d + z3, g + z4
            z0, z1, z2, z3, z4 = _pair(xj, yj, c0[j], c1[j], d0[j], d1[j])
            p, q, s, t, h = p + z0, q + z1, s + z2, t + z3, h + z4
        if n % 2:
            xj, j = _biased(x[i, n - 1]), n - 1
            z0, z1, z2, z3, z4 = _pair(xj, _ZERO, v[0, row, j], v[1, row, j], _ZERO, _ZERO)
            a, b, c, d, g = a + z0, b + z1, c + z2, d + z3, g + z4
            z0, z1, z2, z3, z4 = _pair(xj, _ZERO, v[2, row, j], v[3, row, j], _ZERO, _ZERO)
            p, q, s, t, h = p + z0, q + z1, s + z2, t + z3, h + z4
        out[0, i, row] = _sub(_join(a, b, c, d, g), offset[0, row])
        out[1, i, row] = _sub(_join(p, q, s, t, h), offset[1, row])


def fold_matrix(x: IntArray, v: U64Array) -> U64Array:
    """sum_n v[row, n] x[outer, n, inner], shape (2, outer, rows, inner).

    x int32 or int64 (outer, n, inner), |x| < 2^45, n < 2^18; v (2, rows, n).
    """
    outer, n, inner = x.shape
    rows = v.shape[1]
    offset = f_mul_scalar(f_sum(v), F(1 << (31 if x.dtype == np.int32 else 45)))
    if inner >= 16:
        out = np.empty((2, outer, rows, inner), np.uint64)
        tasks, grain = outer * -(-inner // _WIDTH) * rows, 1 + (1 << 17) // (n * min(inner, _WIDTH))
        _spread(_fold_int, tasks, grain, _flat(x), _limbs(v), offset, out)
        return out
    x = _flat(x.transpose(0, 2, 1)).reshape(-1, n)
    out = np.empty((2, outer * inner, rows), np.uint64)
    _spread(_fold_int_dot, outer * inner * rows, 1 + (1 << 17) // n, x, _limbs(v), offset, out)
    return np.ascontiguousarray(out.reshape(2, outer, inner, rows).swapaxes(2, 3))


@_kernel
def _fold_f(x, v, out, start, stop):
    n, inner = x.shape[2:]
    rows, tiles = v.shape[1], -(-inner // _WIDTH)
    acc = np.empty((4, _WIDTH), np.uint64)
    a, b, c, d = acc
    for task in range(start, stop):
        o, first, row = task // (rows * tiles), task // rows % tiles * _WIDTH, task % rows
        width = min(_WIDTH, inner - first)
        acc[:] = _ZERO
        for k in range(n):
            xr, xi = x[0, o, k, first : first + width], x[1, o, k, first : first + width]
            vr, vi = v[0, row, k], v[1, row, k]
            for j in range(width):
                zr, zi = _mul(xr[j], xi[j], vr, vi)
                a[j], b[j] = a[j] + (zr & _M32), b[j] + (zr >> _S32)
                c[j], d[j] = c[j] + (zi & _M32), d[j] + (zi >> _S32)
        yr, yi = out[0, o, row, first : first + width], out[1, o, row, first : first + width]
        for j in range(width):
            yr[j], yi[j] = _total(a[j], b[j]), _total(c[j], d[j])


@_kernel
def _fold_f_dot(x, v, out, start, stop):
    rows = v.shape[1]
    for task in range(start, stop):
        i, row = task // rows, task % rows
        xr, xi, vr, vi = x[0, i], x[1, i], v[0, row], v[1, row]
        a = b = c = d = _ZERO
        for j in range(len(xr)):
            zr, zi = _mul(xr[j], xi[j], vr[j], vi[j])
            a, b, c, d = a + (zr & _M32), b + (zr >> _S32), c + (zi & _M32), d + (zi >> _S32)
        out[0, i, row], out[1, i, row] = _total(a, b), _total(c, d)


def fold_matrix_f(x: U64Array, v: U64Array) -> U64Array:
    """fold_matrix for an F array x (2, outer, n, inner)."""
    _, outer, n, inner = x.shape
    rows = v.shape[1]
    if inner >= 16:
        out = np.empty((2, outer, rows, inner), np.uint64)
        tasks, grain = outer * -(-inner // _WIDTH) * rows, 1 + (1 << 16) // (n * min(inner, _WIDTH))
        _spread(_fold_f, tasks, grain, _flat(x), _flat(v), out)
        return out
    x = _flat(x.swapaxes(2, 3)).reshape(2, -1, n)
    out = np.empty((2, outer * inner, rows), np.uint64)
    _spread(_fold_f_dot, outer * inner * rows, 1 + (1 << 16) // n, x, _flat(v), out)
    return np.ascontiguousarray(out.reshape(2, outer, inner, rows).swapaxes(2, 3))


@_kernel
def _axpy(w_r, w_i, cr, ci, x_r, x_i, start, stop):
    wr, wi, xr, xi = w_r[start:stop], w_i[start:stop], x_r[start:stop], x_i[start:stop]
    for i in range(stop - start):
        zr, zi = _mul(xr[i], xi[i], cr, ci)
        wr[i], wi[i] = _reduce(wr[i] + _fold(zr)), _reduce(wi[i] + _fold(zi))


def axpy_outer(w: U64Array, pos: int, coef: F, base: U64Array) -> None:
    """w[:, pos : pos + m] += coef * base in place: w (2, n) with contiguous lanes, base (2, m)."""
    m = base.shape[1]
    if not (w.flags.writeable and w.strides[1] == 8 and 0 <= pos <= w.shape[1] - m):
        raise ValueError("w must have writeable contiguous lanes that hold the range")
    lanes = w[0, pos : pos + m], w[1, pos : pos + m]
    _spread(_axpy, m, 1 << 16, *lanes, *_scalar(coef), *_lanes(base))


@_kernel
def _combine_int(coefs, x, offset, out, start, stop):
    """coefs (6, k, R): limbs of re, im and -im; x (R, 2C)."""
    count, columns = coefs.shape[1], x.shape[1] // 2
    acc = np.empty((8, _WIDTH), np.uint64)
    a, b, c, d, p, q, s, t = acc
    for task in range(start, stop):
        first, k = task // count * _WIDTH, task % count
        width = min(_WIDTH, columns - first)
        acc[:] = _ZERO
        for r in range(len(x)):
            y = x[r, 2 * first : 2 * (first + width)]
            r0, r1, i0, i1 = coefs[0, k, r], coefs[1, k, r], coefs[2, k, r], coefs[3, k, r]
            n0, n1 = coefs[4, k, r], coefs[5, k, r]
            for j in range(width):
                xj, yj = _biased(y[2 * j]), _biased(y[2 * j + 1])
                z0, z1, z2, z3, _ = _pair(xj, yj, r0, r1, n0, n1)
                a[j], b[j], c[j], d[j] = a[j] + z0, b[j] + z1, c[j] + z2, d[j] + z3
                z0, z1, z2, z3, _ = _pair(xj, yj, i0, i1, r0, r1)
                p[j], q[j], s[j], t[j] = p[j] + z0, q[j] + z1, s[j] + z2, t[j] + z3
        yr, yi = out[0, k, first : first + width], out[1, k, first : first + width]
        for j in range(width):
            yr[j] = _sub(_join(a[j], b[j], c[j], d[j], _ZERO), offset[0, k])
            yi[j] = _sub(_join(p[j], q[j], s[j], t[j], _ZERO), offset[1, k])


@_kernel
def _combine_f(coefs, x, out, start, stop):
    """coefs (2, k, R), x (R, 2C)."""
    count, columns = coefs.shape[1], x.shape[1] // 2
    acc = np.empty((4, _WIDTH), np.uint64)
    a, b, c, d = acc
    for task in range(start, stop):
        first, k = task // count * _WIDTH, task % count
        width = min(_WIDTH, columns - first)
        acc[:] = _ZERO
        for r in range(len(x)):
            y = x[r, 2 * first : 2 * (first + width)]
            cr, ci = coefs[0, k, r], coefs[1, k, r]
            for j in range(width):
                zr, zi = _mul(y[2 * j], y[2 * j + 1], cr, ci)
                a[j], b[j] = a[j] + (zr & _M32), b[j] + (zr >> _S32)
                c[j], d[j] = c[j] + (zi & _M32), d[j] + (zi >> _S32)
        yr, yi = out[0, k, first : first + width], out[1, k, first : first + width]
        for j in range(width):
            yr[j], yi[j] = _total(a[j], b[j]), _total(c[j], d[j])


def combine_rows(coefs: U64Array, x: IntArray) -> U64Array:
    """sum_r coefs[k, r] (x[r, c, 0] + i_unit x[r, c, 1]), shape (2, k, C).

    coefs (2, k, R); x (R, C, 2) of signed int32 or of canonical uint64 lanes.
    """
    rows, columns, _ = x.shape
    count = coefs.shape[1]
    out = np.empty((2, count, columns), np.uint64)
    tasks, grain = count * -(-columns // _WIDTH), 1 + (1 << 16) // (rows * min(columns, _WIDTH))
    flat = _flat(x).reshape(rows, 2 * columns)
    if x.dtype == np.uint64:
        _spread(_combine_f, tasks, grain, _flat(coefs), flat, out)
    else:
        limbs = np.concatenate((_limbs(coefs), _limbs(f_neg(coefs))[2:]))
        offset = f_mul_scalar(f_sum(coefs), F(1 << 31, 1 << 31))
        _spread(_combine_int, tasks, grain, limbs, flat, offset, out)
    return out


# ------------------------------------------------------------------------------------------- first run


def compiled() -> bool:
    """Whether numba's cache beside this file holds kernels; if not, the first proof compiles for up to a minute."""
    return any(Path(__file__).parent.glob("__pycache__/kernels.*.nbi"))


def warm_up() -> None:
    """Call every kernel on tiny arrays, so that all are compiled (and cached)."""
    r, one = F(3, 5), F.ONE
    x = np.arange(128, dtype=np.uint64).reshape(2, 64)
    ints = np.arange(64, dtype=np.int32)
    (e,) = eq_levels([r] * 5, 32)[-1:]
    bind(x, r, one)
    bind_int(ints, r)
    product_round(None, 0, x, x)
    product_round(e, 0, x, x)
    product_round(e, 2, x, x)
    product_round_int(ints, x)
    zero = np.zeros(1, np.int64)
    fraction_layer(x, leaf_denominators(ints, zero, zero, zero, r))
    fraction_round((x, x), split_children(np.repeat(x, 2, axis=1), one), e, r)
    encode_rows(np.ascontiguousarray(x.reshape(32, 4)), np.ascontiguousarray(x.reshape(32, 4)), 4)
    for inner in (1, 32):
        rows = ints.reshape(-1, 64 // (2 * inner), inner)
        v = x[:, None, : rows.shape[1]].copy()
        fold_matrix(rows, v)
        fold_matrix(rows.astype(np.int64), v)
        fold_matrix_f(x.reshape(2, *rows.shape).copy(), v)
    axpy_outer(np.zeros((2, 64), np.uint64), 0, r, x)
    combine_rows(x[:, None, :4].copy(), ints.reshape(4, 8, 2))
    combine_rows(x[:, None, :4].copy(), x[0].reshape(4, 8, 2).copy())
