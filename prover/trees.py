"""The prover's side of the range checks: fraction trees over digits and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.ir import ceil_log2
from circuits.layout import Layout
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels

U64 = NDArray[np.uint64]
LEAF_BLOCK = 1 << 20


class Tree:
    """A LogUp fraction tree: levels[d] holds p, q (2, ceil(count / 2^(depth-d))).

    The leaves are computed twice rather than kept, and levels are dropped as the reduction passes them.
    """

    def __init__(self, leaves: Callable[[], tuple[U64 | None, U64]]) -> None:
        """leaves() gives p, q; p = None stands for ones."""
        self.leaves = leaves
        p, q = leaves()
        self.depth = ceil_log2(q.shape[1])
        levels: list[tuple[U64, U64]] = []
        for _ in range(self.depth):
            p, q = unit_fractions(q) if p is None else kernels.fraction_layer(p, q)
            levels.append((p, q))
        self.levels = levels[::-1]

    def root(self) -> tuple[F, F]:
        p, q = self.levels[0]
        return ff.f_item(p, 0), ff.f_item(q, 0)

    def start_layer(self, depth: int, point: Sequence[F], lam: F) -> None:
        p: U64 | None
        if depth + 1 == self.depth:
            p, q = self.leaves()
        else:
            p, q = self.levels[depth + 1]
            self.levels[depth + 1] = (q[:, :0], q[:, :0])
        self.lam = lam
        self.q = kernels.split_children(q, F.ONE)
        self.p: tuple[U64, U64] | None = None
        if p is not None:
            self.p = kernels.split_children(p, F.ZERO)
        else:
            self.unit_odd = int(q.shape[1] % 2)
        del p, q  # the split copies replace them
        self.eq = kernels.eq_levels(list(point[:-1]), -(-self.q[0].shape[1] // 2)) if point else []

    def _unit_numerators(self, start: int, stop: int) -> tuple[U64, U64]:
        """p0, p1 of a range of leaf pairs whose numerators are ones (zero where there is no leaf)."""
        p0 = np.zeros((2, stop - start), np.uint64)
        p0[0] = 1
        p1 = p0.copy()
        if self.unit_odd and stop == self.q[0].shape[1]:
            p1[0, -1] = 0
        return p0, p1

    def round(self, eq_rest: int) -> tuple[F, F]:
        e = self.eq[eq_rest]
        if self.p is not None:
            return kernels.fraction_round(self.p, self.q, e, self.lam)
        t0 = tinf = F.ZERO
        m = self.q[0].shape[1]
        for start in range(0, m, LEAF_BLOCK):
            stop = min(start + LEAF_BLOCK, m)
            q = tuple(np.ascontiguousarray(x[:, start:stop]) for x in self.q)
            part = np.ascontiguousarray(e[:, start // 2 : -(-stop // 2)])
            a, b = kernels.fraction_round(self._unit_numerators(start, stop), (q[0], q[1]), part, self.lam)
            # every call adds lam for the entries it does not see; only one may
            t0, tinf = t0 + a - (self.lam if start else 0), tinf + b
        return t0, tinf

    def bind(self, r: F) -> None:
        if self.p is None:
            m = self.q[0].shape[1]
            p0, p1 = (np.zeros((2, -(-m // 2)), np.uint64) for _ in range(2))
            p0[0] = p1[0] = 1
            last = self._unit_numerators(m - 2 + m % 2, m)
            for p, tail in zip((p0, p1), last, strict=True):
                p[:, -1:] = kernels.bind(tail, r, F.ZERO)
            self.p = (p0, p1)
        else:
            self.p = (kernels.bind(self.p[0], r, F.ZERO), kernels.bind(self.p[1], r, F.ZERO))
        self.q = (kernels.bind(self.q[0], r, F.ONE), kernels.bind(self.q[1], r, F.ONE))

    def finals(self) -> tuple[F, F, F, F]:
        p = self._unit_numerators(0, 1) if self.p is None else self.p
        p0, p1, q0, q1 = (ff.f_item(x, 0) for x in (*p, *self.q))
        return p0, p1, q0, q1


def unit_fractions(q: U64) -> tuple[U64, U64]:
    """The level above leaves 1/q, block by block."""
    half = -(-q.shape[1] // 2)
    out_p, out_q = np.empty((2, half), np.uint64), np.empty((2, half), np.uint64)
    for start in range(0, q.shape[1], LEAF_BLOCK):
        part = np.ascontiguousarray(q[:, start : start + LEAF_BLOCK])
        ones = np.zeros_like(part)
        ones[0] = 1
        at = slice(start // 2, start // 2 + -(-part.shape[1] // 2))
        out_p[:, at], out_q[:, at] = kernels.fraction_layer(ones, part)
    return out_p, out_q


def range_check_trees(lay: Layout, x: NDArray[np.int32], alpha: F) -> tuple[Tree, Tree]:
    """The trees over digits and tables; x int32 (data_end,)."""
    seg = lay.segments
    starts = np.array([s.start for s in seg], np.int64)
    shifts = np.array([s.shift for s in seg], np.int64)
    classes = np.array([s.cls for s in seg], np.int64)

    def digits() -> tuple[U64 | None, U64]:
        return None, kernels.leaf_denominators(x[: lay.digit_count], starts, shifts, classes, alpha)

    def table() -> tuple[U64 | None, U64]:
        entries = np.concatenate([np.arange(size, dtype=np.int32) for size in lay.tables])
        firsts = np.cumsum([0, *lay.tables[:-1]])
        zero, cls = np.zeros(len(lay.tables), np.int64), np.arange(len(lay.tables))
        m = x[lay.multiplicity_start :].astype(np.int64)
        q = kernels.leaf_denominators(entries, firsts, zero, cls, alpha)
        return ff.f_from_fp(ff.fp_from_int(-m)), q

    return Tree(digits), Tree(table)
