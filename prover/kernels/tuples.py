"""Leaves that are tuples: their denominators, and the first level above them.

Leaves 1/q are kept in pairs as uint64 (4, stride >= n) with rows Re q0, Im q0, Re q1, Im q1: leaf i < n is q0 of pair
i, leaf n + i its q1.
"""

from __future__ import annotations

import numpy as np

from zkcert.core.field import U64, F

from .arith import IntArray, dot2, flat, fold, inline, kernel, mul, reduce, residue, scalar, spread, sub
from .tree import BLOCK, GRAIN


@kernel
def _tuple_leaves(x, scales, br, bi, out, row, at):
    count, first = len(x), 0
    while first < x.shape[1]:
        width = min(x.shape[1] - first, BLOCK)
        re, im = out[row, at + first : at + first + width], out[row + 1, at + first : at + first + width]
        y = x[0, first : first + width]
        for i in range(width):
            re[i], im[i] = residue(y[i]), np.uint64(0)
        for k in range(1, count, 2):
            other = min(k + 1, count - 1)  # the last one, with weight zero, where none is left
            y, z = x[k, first : first + width], x[other, first : first + width]
            ar, ai, cr, ci = scales[0, k], scales[1, k], scales[0, k + 1], scales[1, k + 1]
            for i in range(width):
                v, w = residue(y[i]), residue(z[i])
                re[i], im[i] = fold(re[i] + dot2(v, ar, w, cr)), fold(im[i] + dot2(v, ai, w, ci))
        for i in range(width):
            re[i], im[i] = sub(br, reduce(re[i])), sub(bi, reduce(im[i]))
        first += width


def tuple_leaves(x: IntArray, gamma: F, base: F, out: U64, row: int, at: int) -> None:
    """Write base - (x[0] + gamma x[1] + gamma^2 x[2] + ...) for int64 x (components, n), |x| < p, into two rows of out,
    from column `at` on; in this thread."""
    scales = np.zeros((2, len(x) + 2), np.uint64)
    power = F.ONE
    for k in range(len(x)):
        scales[:, k] = power.re, power.im
        power = power * gamma
    _tuple_leaves(flat(x), scales, *scalar(base), out, row, at)


@kernel
def _tuple_parents(pairs, paired, out, start, stop):
    first = start
    while first < stop:
        width = min(stop - first, BLOCK)
        ar, ai, br, bi = _rows(pairs, first, width)
        pr, pi, qr, qi = _rows(out, first, width)
        n = max(0, min(paired - first, width))
        for i in range(width):
            sr, si = mul(ar[i], ai[i], br[i], bi[i])
            qr[i], qi[i] = reduce(sr), reduce(si)
        for i in range(n):
            pr[i], pi[i] = reduce(ar[i] + br[i]), reduce(ai[i] + bi[i])
        for i in range(n, width):
            pr[i], pi[i] = br[i], bi[i]
        first += width


@inline
def _rows(a, first, width):
    return (
        a[0, first : first + width],
        a[1, first : first + width],
        a[2, first : first + width],
        a[3, first : first + width],
    )


def tuple_parents(pairs: U64, n: int, paired: int, out: U64) -> None:
    """The fractions over n pairs of leaves, into out (4, stride): 1/q0 + 1/q1, but 1/q0 + 0/q1 from `paired` on."""
    spread(_tuple_parents, n, GRAIN, pairs, paired, out)


@kernel
def _scale_leaves(pairs, paired, lr, li, start, stop):
    first = start
    while first < stop:
        width = min(stop - first, BLOCK)
        ar, ai, br, bi = _rows(pairs, first, width)
        n = max(0, min(paired - first, width))
        for i in range(width):
            sr, si = mul(ar[i], ai[i], lr, li)
            ar[i], ai[i] = reduce(fold(sr) + np.uint64(1)), reduce(si)
            sr, si = mul(br[i], bi[i], lr, li)
            br[i], bi[i] = reduce(sr), reduce(si)
        for i in range(n):
            br[i] = reduce(br[i] + np.uint64(1))
        first += width


def scale_leaves(pairs: U64, n: int, paired: int, lam: F) -> None:
    """p + lam q in the place of every leaf p/q of n pairs: p is one for all q0 and the first `paired` q1, else zero."""
    spread(_scale_leaves, n, GRAIN, pairs, paired, *scalar(lam))
