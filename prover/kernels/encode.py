"""Reed-Solomon encoder: FFTs over the norm-1 group."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zkcert.core.field import F, U64Array, f_array, f_mul_scalar, root_of_unity

from .arith import FOUR_P, ROWS, TWO_P, ZERO, flat, fold, inline, kernel, mul, reduce, spread


@inline
def _reverse_bits(x, n):
    y = 0
    for _ in range(n):
        y = y << 1 | x & 1
        x >>= 1
    return y


@kernel
def _butterflies(w, log_size, level, log_step, offset, log_n, tw_r, tw_i):
    """Decimation-in-time stages `level` .. log_size on the rows (re, im lanes of ROWS) of w, in place.

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
                for r in range(ROWS):
                    ar, ai = x0[r], x0[ROWS + r]
                    br, bi = mul(x1[r], x1[ROWS + r], wr, wi)
                    br, bi = fold(br), fold(bi)
                    x0[r], x0[ROWS + r] = reduce(ar + br), reduce(ai + bi)
                    x1[r], x1[ROWS + r] = reduce(ar + TWO_P - br), reduce(ai + TWO_P - bi)
        level += 1
    while level < log_size:
        h = 1 << level
        for base in range(0, size, 4 * h):
            for k in range(h):
                t = (offset + (k << log_step)) << (log_n - log_step - level - 2)
                ur, ui, vr, vi, wr, wi = tw_r[2 * t], tw_i[2 * t], tw_r[t], tw_i[t], tw_r[3 * t], tw_i[3 * t]
                i = base + k
                x0, x1, x2, x3 = w[i], w[i + h], w[i + 2 * h], w[i + 3 * h]
                for r in range(ROWS):
                    ar, ai = x0[r], x0[ROWS + r]
                    br, bi = mul(x1[r], x1[ROWS + r], ur, ui)
                    cr, ci = mul(x2[r], x2[ROWS + r], vr, vi)
                    dr, di = mul(x3[r], x3[ROWS + r], wr, wi)
                    br, bi, cr, ci, dr, di = fold(br), fold(bi), fold(cr), fold(ci), fold(dr), fold(di)
                    er, ei, fr, fi = ar + br, ai + bi, ar + TWO_P - br, ai + TWO_P - bi
                    gr, gi = cr + dr, ci + di
                    hr, hi = di + TWO_P - ci, cr + TWO_P - dr  # i_unit (c - d)
                    x0[r], x0[ROWS + r] = reduce(er + gr), reduce(ei + gi)
                    x1[r], x1[ROWS + r] = reduce(fr + hr), reduce(fi + hi)
                    x2[r], x2[ROWS + r] = reduce(er + FOUR_P - gr), reduce(ei + FOUR_P - gi)
                    x3[r], x3[ROWS + r] = reduce(fr + FOUR_P - hr), reduce(fi + FOUR_P - hi)
        level += 2


@kernel
def _encode(m_r, m_i, log_n, log_1, tw_r, tw_i, out, start, stop):
    """Encode row blocks start .. stop: transforms of 2^log_1 consecutive points, then across those blocks."""
    rows, m = m_r.shape
    log_2 = log_n - log_1
    n1, n2 = 1 << log_1, 1 << log_2
    pad = 0  # of each 2^pad bit-reversed coefficients all but the first are zero
    while m << (pad + 1) <= 1 << log_n and pad < log_1:
        pad += 1
    columns = np.zeros((m, 2 * ROWS), np.uint64)
    blocks = np.empty((n2, n1 + 1, 2 * ROWS), np.uint64)  # + 1 avoids strides of a power of two
    work = np.empty((max(n1, n2), 2 * ROWS), np.uint64)
    for block in range(start, stop):
        row = block * ROWS
        live = min(ROWS, rows - row)
        for j in range(0, m, 64):
            for r in range(live):
                x, y = m_r[row + r, j : j + 64], m_i[row + r, j : j + 64]
                z = columns[j : j + 64]
                for k in range(len(x)):
                    z[k, r], z[k, ROWS + r] = x[k], y[k]
        for unit in range(n2 + n1):
            if unit < n2:
                t, size, level, step, offset = unit, log_1, pad, 0, 0
                for k in range(0, n1, 1 << pad):
                    j = _reverse_bits(t * n1 + k, log_n)
                    for c in range(k, k + (1 << pad)):
                        for r in range(2 * ROWS):
                            work[c, r] = columns[j, r] if j < m else ZERO
            else:
                t, size, level, step, offset = unit - n2, log_2, 0, log_1, unit - n2
                for k in range(n2):
                    for r in range(2 * ROWS):
                        work[k, r] = blocks[k, t, r]
            _butterflies(work, size, level, step, offset, log_n, tw_r, tw_i)
            if unit < n2:
                for k in range(n1):
                    for r in range(2 * ROWS):
                        blocks[t, k, r] = work[k, r]
            else:
                for k in range(n2):
                    z0, z1 = out[k * n1 + t, 0, row:], out[k * n1 + t, 1, row:]
                    for r in range(live):
                        z0[r], z1[r] = work[k, r], work[k, ROWS + r]


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
    spread(_encode, -(-rows // ROWS), 1, flat(m_re), flat(m_im), log_n, log_1, *_twiddles(log_n), out)
    return out
