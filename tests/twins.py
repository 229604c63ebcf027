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


def bind(x, r, fill):
    return f_array([a + r * (b - a) for a, b in _pairs(f_list(x), fill)])


def count_entries(x, starts, shift, first, size, entries):
    out = [0] * entries
    for i, value in enumerate(x.tolist()):
        s = max(s for s, start in enumerate(starts) if start <= i)
        if 0 <= value + shift[s] < size[s]:
            out[first[s] + value + shift[s]] += 1
    return out


def product_round(a, b):
    pairs = list(zip(_pairs(f_list(a), F.ZERO), _pairs(f_list(b), F.ZERO), strict=True))
    t0 = _sum(a0 * b0 for (a0, _), (b0, _) in pairs)
    tinf = _sum((a1 - a0) * (b1 - b0) for (a0, a1), (b0, b1) in pairs)
    return t0, tinf


def _halves(values):
    return list(zip(values[: len(values) // 2], values[len(values) // 2 :], strict=True))


def _fractions(level):
    return list(zip(f_list(level[:2]), f_list(level[2:]), strict=True))


def parents(level):
    """Level (4, n) to (4, n/2); the children of node i are i and i + n/2."""
    out = [(p0 * q1 + p1 * q0, q0 * q1) for (p0, q0), (p1, q1) in _halves(_fractions(level))]
    return np.concatenate([f_array([p for p, _ in out]), f_array([q for _, q in out])])


def tuple_leaves(x, gamma, base):
    """Denominators base - (x[0] + gamma x[1] + ...) of the columns of x."""
    out = []
    for column in zip(*x.tolist(), strict=True):
        encoded = F.ZERO
        for value in reversed(column):
            encoded = encoded * gamma + value
        out.append(base - encoded)
    return out


def leaf_pairs(pairs, n, paired):
    """The leaves p/q of `kernels.tuples` in their order."""
    first, second = (f_list(pairs[i : i + 2, :n]) for i in (0, 2))
    return [(F.ONE, q) for q in first] + [(F(int(i < paired)), q) for i, q in enumerate(second)]


def bind_top(x, r):
    """The most significant variable of a list of scalars."""
    return [a + r * (b - a) for a, b in _halves(x)]


def round_sums(e, tables, g):
    """sum_i e[i] g(entries i of the lower halves), and the same of the differences of upper and lower halves."""
    rows = list(zip(*map(_halves, tables), strict=True))
    t0 = _sum(w * g(*(low for low, _ in row)) for w, row in zip(e, rows, strict=True))
    tinf = _sum(w * g(*(high - low for low, high in row)) for w, row in zip(e, rows, strict=True))
    return t0, tinf


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


def outer(x, y, width):
    padded = f_list(y) + [F.ZERO] * (width - y.shape[1])
    return f_array([a * b for a in f_list(x) for b in padded])


def sum_outer(scale, x, y):
    s, x, y = f_list(scale), _matrix(x), _matrix(y)
    columns = [(i, j) for i in range(len(x[0])) for j in range(len(y[0]))]
    return f_array([_sum(c * a[i] * b[j] for c, a, b in zip(s, x, y, strict=True)) for i, j in columns])


def fold_rows(x, starts, heads, outer, inner):
    rows = []
    for head, vec in zip(_matrix(heads), _matrix(outer), strict=True):
        weights = [h * o for h in head for o in vec]
        terms = list(zip(weights, starts.ravel().tolist(), strict=True))
        rows.append(f_array([_sum(w * int(x[start + j]) for w, start in terms) for j in range(inner)]))
    return np.stack(rows, axis=1)


def dot_rows(x, starts, v):
    return f_array([_sum(w * int(x[start + j]) for j, w in enumerate(f_list(v))) for start in starts.tolist()])


def combine_digits(coefs, x, width):
    rows = -(-len(x) // (2 * width))
    digits = [*x.tolist(), *[0] * (2 * width * rows - len(x))]
    packed = [F(a, b) for a, b in zip(digits[::2], digits[1::2], strict=True)]
    sums = []
    first, second = (row[:rows] for row in _matrix(coefs))
    for weights in (first, second, [w.conj() for w in second]):
        sums.append([_sum(w * packed[r * width + c] for r, w in enumerate(weights)) for c in range(width)])
    return np.stack([f_array(s) for s in sums], axis=1)


def pair_sums(tables, outer, inner, odd=0):
    rows = _matrix(tables)
    half, heavy, light, length = len(rows) // 2, f_list(outer), f_list(inner), inner.shape[1]
    at = lambda row, i: (row[2 * i + odd], row[2 * i + 1] - row[2 * i])  # noqa: E731
    value, lead = [], []
    for i in range(len(rows[0]) // 2):
        weight = heavy[i // length] * light[i % length]
        for a, b in zip(rows[:half], rows[half:], strict=True):
            (a0, da), (b0, db) = at(a, i), at(b, i)
            value.append(weight * a0 * b0)
            lead.append(weight * da * db)
    return _sum(value), _sum(lead)


def grid_sums(x, bits, members, outer, inner):
    """The members as python integers at every point of {0, 1, infinity}^bits."""
    left, right, coef, ends = (v.tolist() for v in members)
    heavy, light, length = f_list(outer), f_list(inner), inner.shape[1]

    def grid(entries):
        if len(entries) == 1:
            return entries
        half = len(entries) // 2
        low, high = grid(entries[:half]), grid(entries[half:])
        return [*low, *high, *(b - a for a, b in zip(low, high, strict=True))]

    out = [[F.ZERO] * 3**bits for _ in ends]
    for i in range(len(heavy) * length):
        weight = heavy[i // length] * light[i % length]
        values = [grid(row[i << bits : (i + 1) << bits]) for row in x.tolist()]
        for m, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            for k in range(3**bits):
                value = sum(coef[j] * values[left[j]][k] * values[right[j]][k] for j in range(start, end))
                out[m][k] = out[m][k] + weight * value
    return f_array([v for row in out for v in row]).reshape(2, len(ends), 3**bits)


def bind_forms(x, coefs):
    n, size = coefs.shape[2:]
    rows = [_matrix(coefs[:, k]) for k in range(coefs.shape[1])]
    groups = x.shape[1] // size
    out = [
        _sum(row[d][j] * int(x[d, i * size + j]) for d in range(n) for j in range(size))
        for row in rows
        for i in range(groups)
    ]
    return f_array(out).reshape(2, len(rows), groups)


class Products:
    """A ProductOracle on lists of scalars, padded to powers of two: sum over the table of e * sum_k A_k B_k."""

    def __init__(self, pairs, eq_point):
        self.pairs, self.eq_point = pairs, list(eq_point)
        self.bits = len(pairs[0][0]).bit_length() - 1

    def total(self):
        weight = f_list(eq_table(self.eq_point))
        shift = self.bits - len(self.eq_point)
        return _sum(weight[i >> shift] * a[i] * b[i] for a, b in self.pairs for i in range(len(a)))

    def round(self, eq_point):
        weight = f_list(eq_table(self.eq_point if eq_point is None else eq_point))
        shift = self.bits - 1 - len(self.eq_point) if eq_point is None else 0
        t0 = tinf = F.ZERO
        for a, b in self.pairs:
            for i in range(len(a) // 2):
                t0 = t0 + weight[i >> shift] * a[2 * i] * b[2 * i]
                tinf = tinf + weight[i >> shift] * (a[2 * i + 1] - a[2 * i]) * (b[2 * i + 1] - b[2 * i])
        return t0, tinf

    def bind(self, r):
        fold = lambda v: [v[i] + r * (v[i + 1] - v[i]) for i in range(0, len(v), 2)]  # noqa: E731
        self.pairs = [(fold(a), fold(b)) for a, b in self.pairs]
        self.bits -= 1

    def finals(self):
        return [(a[0], b[0]) for a, b in self.pairs]
