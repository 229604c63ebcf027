"""Linear combinations of rows of digits and field elements."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from zkcert.core.field import U64, F, f_mul_scalar, f_sum, fp_add, fp_mul, fp_sub, fp_sum

from .arith import (
    M31,
    M32,
    S2,
    S31,
    S32,
    WIDTH,
    ZERO,
    IntArray,
    flat,
    fold,
    inline,
    kernel,
    mul,
    reduce,
    rotate,
    spread,
    sub,
    total,
)
from .memory import empty

S21, S42, M21 = np.uint64(21), np.uint64(42), np.uint64((1 << 21) - 1)
TILE = 256  # columns of the accumulators that stay in the L1 cache
MAX_ROWS = 1 << 11  # products of 53 bits that fit in 64
PIECE = 1 << 28  # digits whose columns are gone over one after another: if they lie in a file, memory holds so many


def _biased(x):
    """x + 2^31 of an int32, x + 2^45 of an int64 |x| < 2^45, as u64."""


@overload(_biased)
def _biased_overload(x):
    if x.bitwidth == 32:
        return lambda x: np.uint64(np.uint32(x)) ^ np.uint64(1 << 31)
    return lambda x: np.uint64(x + (1 << 45))


@inline
def _join(a, b, c, d, g):
    """Canonical residue of a + 2^32 b + 2^31 (c + 2^32 d) + 4 g."""
    return reduce(fold(a) + rotate(b, S32) + fold(rotate(c, S31) + rotate(d, S2) + rotate(g, S2)))


@inline
def _pair(x, y, a0, a1, b0, b1):
    """Terms of the accumulators of `_join` for x*a + y*b: x, y < 2^46; a = (a1 << 31) + a0 <= p, b alike."""
    x0, x1, y0, y1 = x & M32, x >> S32, y & M32, y >> S32
    a0, a1, b0, b1 = a0 & M31, a1 & M31, b0 & M31, b1 & M31
    low, mid = x0 * a0 + y0 * b0, x0 * a1 + y0 * b1
    top = x1 * a0 + y1 * b0  # of weight 2^32
    return (
        low & M32,
        (low >> S32) + (top & M32),
        mid & M32,
        mid >> S32,
        x1 * a1 + y1 * b1 + ((top >> S32) << np.uint64(1)),
    )


def _limbs(v: U64) -> U64:
    """Limbs (4, ...) of 31 bits of the lanes of v (2, ...): re low, re high, im low, im high."""
    return np.stack((v[0] & M31, v[0] >> S31, v[1] & M31, v[1] >> S31))


@kernel
def _fold_int(x, v, offset, out, start, stop):
    _, n, inner = x.shape
    rows, tiles = v.shape[1], -(-inner // WIDTH)
    acc = np.empty((10, WIDTH), np.uint64)
    a, b, c, d, g, p, q, s, t, h = acc
    for task in range(start, stop):
        o, first, row = task // (rows * tiles), task // rows % tiles * WIDTH, task % rows
        width = min(WIDTH, inner - first)
        acc[:] = ZERO
        for k in range(0, n, 2):
            xs, ys = x[o, k, first : first + width], x[o, min(k + 1, n - 1), first : first + width]
            a0, a1, c0, c1 = v[0, row, k], v[1, row, k], v[2, row, k], v[3, row, k]
            b0 = b1 = d0 = d1 = ZERO
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
            yr[j] = sub(_join(a[j], b[j], c[j], d[j], g[j]), offset[0, row])
            yi[j] = sub(_join(p[j], q[j], s[j], t[j], h[j]), offset[1, row])


@kernel
def _fold_int_dot(x, v, offset, out, start, stop):
    n, rows = x.shape[1], v.shape[1]
    half = n // 2
    for task in range(start, stop):
        i, row = task // rows, task % rows
        xs, ys = x[i, :half], x[i, half : 2 * half]
        a0, a1, c0, c1 = v[0, row, :half], v[1, row, :half], v[2, row, :half], v[3, row, :half]
        b0, b1 = v[0, row, half : 2 * half], v[1, row, half : 2 * half]
        d0, d1 = v[2, row, half : 2 * half], v[3, row, half : 2 * half]
        a = b = c = d = g = p = q = s = t = h = ZERO
        for j in range(half):
            xj, yj = _biased(xs[j]), _biased(ys[j])
            z0, z1, z2, z3, z4 = _pair(xj, yj, a0[j], a1[j], b0[j], b1[j])
            a, b, c, d, g = a + z0, b + z1, c + z2, d + z3, g + z4
            z0, z1, z2, z3, z4 = _pair(xj, yj, c0[j], c1[j], d0[j], d1[j])
            p, q, s, t, h = p + z0, q + z1, s + z2, t + z3, h + z4
        if n % 2:
            xj, j = _biased(x[i, n - 1]), n - 1
            z0, z1, z2, z3, z4 = _pair(xj, ZERO, v[0, row, j], v[1, row, j], ZERO, ZERO)
            a, b, c, d, g = a + z0, b + z1, c + z2, d + z3, g + z4
            z0, z1, z2, z3, z4 = _pair(xj, ZERO, v[2, row, j], v[3, row, j], ZERO, ZERO)
            p, q, s, t, h = p + z0, q + z1, s + z2, t + z3, h + z4
        out[0, i, row] = sub(_join(a, b, c, d, g), offset[0, row])
        out[1, i, row] = sub(_join(p, q, s, t, h), offset[1, row])


def fold_matrix(x: IntArray, v: U64) -> U64:
    """sum_n v[row, n] x[outer, n, inner], shape (2, outer, rows, inner).

    x int32 or int64 (outer, n, inner), |x| < 2^45, n < 2^18; v (2, rows, n).
    """
    outer, n, inner = x.shape
    rows = v.shape[1]
    offset = f_mul_scalar(f_sum(v), F(1 << (31 if x.dtype == np.int32 else 45)))
    if inner >= 16:
        out = empty(2, outer, rows, inner)
        tasks, grain = outer * -(-inner // WIDTH) * rows, 1 + (1 << 17) // (n * min(inner, WIDTH))
        spread(_fold_int, tasks, grain, flat(x), _limbs(v), offset, out)
        return out
    x = flat(x.transpose(0, 2, 1)).reshape(-1, n)
    out = empty(2, outer * inner, rows)
    spread(_fold_int_dot, outer * inner * rows, 1 + (1 << 17) // n, x, _limbs(v), offset, out)
    return np.ascontiguousarray(out.reshape(2, outer, inner, rows).swapaxes(2, 3))


@kernel
def _fold_f(x, v, out, start, stop):
    n, inner = x.shape[2:]
    rows, tiles = v.shape[1], -(-inner // WIDTH)
    acc = np.empty((4, WIDTH), np.uint64)
    a, b, c, d = acc
    for task in range(start, stop):
        o, first, row = task // (rows * tiles), task // rows % tiles * WIDTH, task % rows
        width = min(WIDTH, inner - first)
        acc[:] = ZERO
        for k in range(n):
            xr, xi = x[0, o, k, first : first + width], x[1, o, k, first : first + width]
            vr, vi = v[0, row, k], v[1, row, k]
            for j in range(width):
                zr, zi = mul(xr[j], xi[j], vr, vi)
                a[j], b[j] = a[j] + (zr & M32), b[j] + (zr >> S32)
                c[j], d[j] = c[j] + (zi & M32), d[j] + (zi >> S32)
        yr, yi = out[0, o, row, first : first + width], out[1, o, row, first : first + width]
        for j in range(width):
            yr[j], yi[j] = total(a[j], b[j]), total(c[j], d[j])


@kernel
def _fold_f_dot(x, v, out, start, stop):
    rows = v.shape[1]
    for task in range(start, stop):
        i, row = task // rows, task % rows
        xr, xi, vr, vi = x[0, i], x[1, i], v[0, row], v[1, row]
        a = b = c = d = ZERO
        for j in range(len(xr)):
            zr, zi = mul(xr[j], xi[j], vr[j], vi[j])
            a, b, c, d = a + (zr & M32), b + (zr >> S32), c + (zi & M32), d + (zi >> S32)
        out[0, i, row], out[1, i, row] = total(a, b), total(c, d)


def fold_matrix_f(x: U64, v: U64) -> U64:
    """fold_matrix for an F array x (2, outer, n, inner)."""
    _, outer, n, inner = x.shape
    rows = v.shape[1]
    if inner >= 16:
        out = empty(2, outer, rows, inner)
        tasks, grain = outer * -(-inner // WIDTH) * rows, 1 + (1 << 16) // (n * min(inner, WIDTH))
        spread(_fold_f, tasks, grain, flat(x), flat(v), out)
        return out
    x = flat(x.swapaxes(2, 3)).reshape(2, -1, n)
    out = empty(2, outer * inner, rows)
    spread(_fold_f_dot, outer * inner * rows, 1 + (1 << 16) // n, x, flat(v), out)
    return np.ascontiguousarray(out.reshape(2, outer, inner, rows).swapaxes(2, 3))


@kernel
def _combine_digits(coefs, x, out, start, stop):
    """out[q, j] += sum_r coefs[q, :, r] x[r, j] for tiles of columns: coefs (Q, 3, R) limbs of 21 bits, R <= 2^11.

    R is a multiple of 4; rows of x past its end count as zero.  x is taken as x + 2^31.
    """
    count, rows, columns = len(coefs), coefs.shape[2], x.shape[1]
    acc = np.empty((3 * count, TILE), np.uint64)
    y = np.zeros((4, TILE), np.uint64)
    for tile in range(start, stop):
        first = tile * TILE
        width = min(TILE, columns - first)
        acc[:] = ZERO
        for r in range(0, rows, 4):
            for k in range(4):
                if r + k < len(x):
                    row = x[r + k, first : first + width]
                    for j in range(width):
                        y[k, j] = _biased(row[j])
                else:
                    y[k] = ZERO
            for q in range(count):
                for limb in range(3):
                    a = acc[3 * q + limb]
                    c0, c1, c2, c3 = coefs[q, limb, r : r + 4]
                    for j in range(width):
                        a[j] += (
                            (y[0, j] & M32) * (c0 & M32)
                            + (y[1, j] & M32) * (c1 & M32)
                            + (y[2, j] & M32) * (c2 & M32)
                            + (y[3, j] & M32) * (c3 & M32)
                        )
        for q in range(count):
            a, b, c, z = acc[3 * q], acc[3 * q + 1], acc[3 * q + 2], out[q, first : first + width]
            for j in range(width):
                z[j] = reduce(z[j] + fold(fold(a[j]) + rotate(b[j], S21) + rotate(c[j], S42)))


def combine_digits(coefs: U64, x: IntArray, width: int) -> U64:
    """Combinations of rows of packed digits: coefficient c of row r is x[2 (r width + c)] + i x[2 (r width + c) + 1].

    x (n,) int32, read-only, zero past its end; coefs (2, 2, R).  Gives (2, 3, width): the combinations with
    coefs[:, 0], with coefs[:, 1] and with the conjugates of the latter.
    """
    row = 2 * width
    whole = len(x) // row
    step = min(MAX_ROWS, max(1, PIECE // row))
    pieces = [x[start * row : min(whole, start + step) * row] for start in range(0, whole, step)]
    if whole * row < len(x):
        pieces.append(np.zeros(row, np.int32))
        pieces[-1][: len(x) - whole * row] = x[whole * row :]
    rows = -(-len(x) // row)
    lanes = np.ascontiguousarray(coefs[:, :, :rows].transpose(1, 0, 2)).reshape(4, rows)
    out = np.zeros((4, row), np.uint64)  # real, imaginary parts of the two coefficients times the digits
    first, tiles = 0, -(-row // TILE)
    for piece in pieces:
        piece = piece.reshape(-1, row)
        piece.flags.writeable = False
        count = len(piece)
        limbs = np.zeros((4, 3, -(-count // 4) * 4), np.uint64)
        for k, shift in enumerate((ZERO, S21, S42)):
            limbs[:, k, :count] = lanes[:, first : first + count] >> shift & M21
        spread(_combine_digits, tiles, 1 + (1 << 14) // (min(row, TILE) * count), limbs, piece, out)
        first += count
    bias, combined = fp_mul(fp_sum(lanes), np.uint64(1 << 31))[:, None], np.empty((2, 3, width), np.uint64)
    for start in range(0, width, 1 << 16):  # so that little is in memory twice
        part = fp_sub(out[:, 2 * start : 2 * start + (2 << 16)], bias)
        rx, ry, ix, iy = (part[k, lane::2] for k in (0, 1) for lane in (0, 1))
        sx, sy, tx, ty = (part[k, lane::2] for k in (2, 3) for lane in (0, 1))
        real, imag = combined[:, :, start : start + (1 << 16)]
        real[0], real[1], real[2] = fp_sub(rx, iy), fp_sub(sx, ty), fp_add(sx, ty)
        imag[0], imag[1], imag[2] = fp_add(ix, ry), fp_add(tx, sy), fp_sub(sy, tx)
    return combined
