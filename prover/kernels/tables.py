"""Binding a variable of multilinear tables."""

from __future__ import annotations

from zkcert.core.field import U64, F, f_item

from .arith import P, fold, kernel, lanes, mul, put, reduce, scalar, spread
from .memory import empty


@kernel
def _bind(x_r, x_i, rr, ri, out_r, out_i, start, stop):
    xr, xi = x_r[2 * start : 2 * stop], x_i[2 * start : 2 * stop]
    yr, yi = out_r[start:stop], out_i[start:stop]
    for i in range(stop - start):
        hr, hi = mul(xr[2 * i + 1] - xr[2 * i] + P, xi[2 * i + 1] - xi[2 * i] + P, rr, ri)
        yr[i], yi[i] = reduce(fold(hr) + xr[2 * i]), reduce(fold(hi) + xi[2 * i])


def bind(x: U64, r: F, fill: F) -> U64:
    """x (2, m) -> (2, ceil(m/2)): x[2i] + r (x[2i+1] - x[2i]); the element after an odd end is `fill`."""
    m = x.shape[1]
    out = empty(2, (m + 1) // 2)
    spread(_bind, m // 2, 1 << 16, *lanes(x), *scalar(r), out[0], out[1])
    if m % 2:
        last = f_item(x, -1)
        put(out, -1, last + r * (fill - last))
    return out
