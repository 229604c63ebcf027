"""Multilinear tables: eq and binding a variable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zkcert.core.field import F, U64Array, f_array, f_item

from .arith import P, fold, kernel, lanes, mul, put, reduce, scalar, spread, sub


@kernel
def _eq_expand(tr, ti, rr, ri, out_r, out_i, start, stop):
    xr, xi = tr[start:stop], ti[start:stop]
    yr, yi = out_r[2 * start : 2 * stop], out_i[2 * start : 2 * stop]
    for i in range(stop - start):
        hr, hi = mul(xr[i], xi[i], rr, ri)
        hr, hi = reduce(hr), reduce(hi)
        yr[2 * i], yi[2 * i] = sub(xr[i], hr), sub(xi[i], hi)
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
        spread(_eq_expand, size // 2, 1 << 16, *lanes(parent), *scalar(r), table[0], table[1])
        if size % 2:
            put(table, -1, f_item(parent, -1) * (1 - r))
        tables.append(table)
    return tables


@kernel
def _bind(x_r, x_i, rr, ri, out_r, out_i, start, stop):
    xr, xi = x_r[2 * start : 2 * stop], x_i[2 * start : 2 * stop]
    yr, yi = out_r[start:stop], out_i[start:stop]
    for i in range(stop - start):
        hr, hi = mul(xr[2 * i + 1] - xr[2 * i] + P, xi[2 * i + 1] - xi[2 * i] + P, rr, ri)
        yr[i], yi[i] = reduce(fold(hr) + xr[2 * i]), reduce(fold(hi) + xi[2 * i])


def bind(x: U64Array, r: F, fill: F) -> U64Array:
    """x (2, m) -> (2, ceil(m/2)): x[2i] + r (x[2i+1] - x[2i]); the element after an odd end is `fill`."""
    m = x.shape[1]
    out = np.empty((2, (m + 1) // 2), np.uint64)
    spread(_bind, m // 2, 1 << 16, *lanes(x), *scalar(r), out[0], out[1])
    if m % 2:
        last = f_item(x, -1)
        put(out, -1, last + r * (fill - last))
    return out
