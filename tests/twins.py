"""Plain definitions of the prover kernels on lists of python-int elements of F: oracles of their tests."""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, eq_table, f_add, f_array, f_fft, f_list


def _sum(values):
    return sum(values, F.ZERO)


def _pairs(values, fill):
    values = [*values, fill] if len(values) % 2 else list(values)
    return list(zip(values[::2], values[1::2], strict=True))


def _matrix(x):
    """An F array (2, k, n) as k lists of scalars."""
    return [f_list(x[:, i]) for i in range(x.shape[1])]


def eq_levels(point, length, skip_last=False):
    n = len(point)
    sizes = [-(-length // (1 << (n - j))) for j in range(n + 1 - skip_last)]
    return [eq_table(point[:j])[:, :size] for j, size in enumerate(sizes)]


def bind(x, r, fill):
    return f_array([a + r * (b - a) for a, b in _pairs(f_list(x), fill)])


def bind_int(x, r):
    return bind(f_array([F(int(v)) for v in x]), r, F.ZERO)


def product_round(e, shift, a, b):
    pairs = list(zip(_pairs(f_list(a), F.ZERO), _pairs(f_list(b), F.ZERO), strict=True))
    weights = [F.ONE] * len(pairs) if e is None else [f_list(e)[i >> shift] for i in range(len(pairs))]
    t0 = _sum(w * a0 * b0 for w, ((a0, _), (b0, _)) in zip(weights, pairs, strict=True))
    tinf = _sum(w * (a1 - a0) * (b1 - b0) for w, ((a0, a1), (b0, b1)) in zip(weights, pairs, strict=True))
    return t0, tinf


def product_round_int(x, w):
    return product_round(None, 0, f_array([F(int(v)) for v in x]), w)


def leaf_denominators(x, seg_starts, seg_shift, seg_class, alpha):
    segment = np.searchsorted(seg_starts, np.arange(len(x)), side="right") - 1
    shifts, classes = seg_shift[segment].tolist(), seg_class[segment].tolist()
    return f_array([alpha - F(v + a, b) for v, a, b in zip(x.tolist(), shifts, classes, strict=True)])


def fraction_layer(p, q):
    pairs = list(zip(_pairs(f_list(p), F.ZERO), _pairs(f_list(q), F.ONE), strict=True))
    parents = [(p0 * q1 + p1 * q0, q0 * q1) for (p0, p1), (q0, q1) in pairs]
    return f_array([a for a, _ in parents]), f_array([b for _, b in parents])


def split_children(x, fill):
    pairs = _pairs(f_list(x), fill)
    return f_array([a for a, _ in pairs]), f_array([b for _, b in pairs])


def fraction_round(p, q, e, lam):
    fills = (F.ZERO, F.ZERO, F.ONE, F.ONE)
    tables = [_pairs(f_list(x), fill) for x, fill in zip((*p, *q), fills, strict=True)]
    weights = f_list(e)

    def g(p0, p1, q0, q1):
        return p0 * q1 + p1 * q0 + lam * q0 * q1

    t0 = tinf = F.ZERO
    for w, *pairs in zip(weights, *tables, strict=True):
        t0 += w * g(*(even for even, _ in pairs))
        tinf += w * g(*(odd - even for even, odd in pairs))
    return t0 + lam * (1 - _sum(weights)), tinf


def encode_rows(x, log_n):
    """Values (2^log_n, 2, rows) of the rows of x (2, rows, m) at the roots of unity in bit-reversed order."""
    out = np.empty((1 << log_n, 2, x.shape[1]), np.uint64)
    exponents = [int(f"{j:0{log_n}b}"[::-1], 2) for j in range(1 << log_n)]
    for r in range(x.shape[1]):
        folded = np.zeros((2, 1 << log_n), np.uint64)  # x^(2^log_n) is one at every point
        for start in range(0, x.shape[2], 1 << log_n):
            part = x[:, r, start : start + (1 << log_n)]
            folded[:, : part.shape[1]] = f_add(folded[:, : part.shape[1]], part)
        out[:, :, r] = f_fft(folded, log_n)[:, exponents].T
    return out


def _fold(x, v):
    """x: nested lists [outer][n][inner] of scalars."""
    rows = _matrix(v)
    out = np.empty((2, len(x), len(rows), len(x[0][0])), np.uint64)
    for o, plane in enumerate(x):
        for k, row in enumerate(rows):
            for i, column in enumerate(zip(*plane, strict=True)):
                value = _sum(a * b for a, b in zip(row, column, strict=True))
                out[:, o, k, i] = value.re, value.im
    return out


def fold_matrix(x, v):
    return _fold(x.tolist(), v)


def fold_matrix_f(x, v):
    return _fold([_matrix(x[:, o]) for o in range(x.shape[1])], v)


def axpy_outer(w, pos, coef, base):
    out = f_list(w)
    for i, b in enumerate(f_list(base)):
        out[pos + i] += coef * b
    return f_array(out)


def combine_digits(coefs, x, width):
    rows = -(-len(x) // (2 * width))
    digits = [*x.tolist(), *[0] * (2 * width * rows - len(x))]
    packed = [F(a, b) for a, b in zip(digits[::2], digits[1::2], strict=True)]
    sums = []
    first, second = (row[:rows] for row in _matrix(coefs))
    for weights in (first, second, [w.conj() for w in second]):
        sums.append([_sum(w * packed[r * width + c] for r, w in enumerate(weights)) for c in range(width)])
    return np.stack([f_array(s) for s in sums], axis=1)
