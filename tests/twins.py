"""Plain definitions of the prover kernels on lists of python-int elements of F: oracles of their tests."""

from __future__ import annotations

import numpy as np

from zkcert.core.field import F, eq_table, f_array, f_list, root_of_unity


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


def count_entries(x, starts, shift, first, size, entries):
    out = [0] * entries
    for i, value in enumerate(x.tolist()):
        s = max(s for s, start in enumerate(starts) if start <= i)
        if 0 <= value + shift[s] < size[s]:
            out[first[s] + value + shift[s]] += 1
    return out


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


def encode_rows(m_re, m_im, log_n):
    out = np.empty((1 << log_n, 2, len(m_re)), np.uint64)
    for r, row in enumerate(_matrix(np.stack((m_re, m_im)))):
        for j in range(1 << log_n):
            w, value = root_of_unity(log_n) ** j, F.ZERO
            for c in reversed(row):
                value = value * w + c
            out[j, :, r] = value.re, value.im
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


def combine_rows(coefs, x):
    rows = [[F(re, im) for re, im in row] for row in x.tolist()]
    sums = [
        [_sum(a * b for a, b in zip(c, column, strict=True)) for column in zip(*rows, strict=True)]
        for c in _matrix(coefs)
    ]
    return np.stack([f_array(s) for s in sums], axis=1)
