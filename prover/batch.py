"""The prover's side of the last sum-check, which joins all claims on X.

Neither the combined weight vector W nor folded copies of X are written down. While the inner variables of a group of
columns are bound, its share of the round polynomials needs nothing of X but the contractions with heads and outer
vectors: one pass over the digits. A second pass contracts the inner index with the challenges; what is left of X, one
entry per column and outer index, is bound entry by entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from circuits.argument.claims import Claim, Sumcheck
from circuits.language.layout import Layout
from zkcert.core import field as ff
from zkcert.core.code import MatrixCode
from zkcert.core.field import F

from . import kernels
from .kernels.arith import in_threads
from .kernels.fold import LONGEST_ROW_BITS
from .weights import group_weights

PIECE = 1 << 16  # of the masking rows at once

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class Entries:
    """Entries of X and W with their indices at the present level, in order; all others are zero in X or W."""

    def __init__(self) -> None:
        self.index: I64 = np.empty(0, np.int64)
        self.x: U64 = np.empty((2, 0), np.uint64)
        self.w: U64 = np.empty((2, 0), np.uint64)

    def add(self, index: I64, x: U64, w: U64) -> None:
        """More entries: index int64 (n,) in any order, not present yet; x, w (2, n)."""
        index = np.concatenate((self.index, index))
        order = np.argsort(index, kind="stable")
        self.index = index[order]
        self.x, self.w = (np.concatenate(pair, axis=1)[:, order] for pair in ((self.x, x), (self.w, w)))

    def complete(self) -> None:
        """Give every entry its neighbour: entries 2i and 2i + 1 then lie side by side."""
        paired = self.index[:-1] ^ 1 == self.index[1:]
        alone = np.ones(len(self.index), np.bool_)
        alone[:-1] &= ~paired
        alone[1:] &= ~paired
        if alone.any():
            zero = np.zeros((2, np.count_nonzero(alone)), np.uint64)
            self.add(self.index[alone] ^ 1, zero, zero)

    def bind(self, r: F) -> None:
        self.index = self.index[::2] >> 1
        self.x, self.w = kernels.bind(self.x, r, F.ZERO), kernels.bind(self.w, r, F.ZERO)


def bound_lanes(rows: U64, r: F) -> U64:
    """x + r (y - x) for the lanes x, y of rows (2, k, width): F array (2, k, width)."""
    out = kernels.empty(*rows.shape)
    for row in range(rows.shape[1]):
        for start in range(0, rows.shape[2], PIECE):
            part = rows[:, row, start : start + PIECE]
            pairs = ff.f_from_fp(part.T.ravel())
            out[:, row, start : start + PIECE] = kernels.bind(pairs, r, F.ZERO)
    return out


class Waiting(NamedTuple):
    """What a group needs once its inner variables are bound; see `Group`."""

    inner_bits: int
    rows: I64
    heads: U64
    outer: U64


class Batch(Sumcheck):
    """The sum-check of <X, W>; the masking rows join when rows are single entries."""

    def __init__(
        self,
        layout: Layout,
        x: NDArray[np.int32],
        masks: U64,
        claims: Sequence[Claim],
        weights: Sequence[F],
        code: MatrixCode,
    ) -> None:
        """x: int32 (data_end,) digits and multiplicities; masks: F rows (2, 4, width)."""
        self.x, self.masks, self.code = x, masks, code
        # Longest first: the groups that are bound to a single entry are always the last ones.
        groups = sorted(group_weights(layout, claims, weights), key=lambda group: -group.inner_bits)
        ends = [0, *accumulate(len(group.terms) << group.inner_bits for group in groups)]
        # Side by side for all groups and products: X contracted with heads and outer vectors, and the inner vectors.
        self.x_table, self.w_table = kernels.empty(2, 2, ends[-1])
        self.waiting: list[Waiting] = []
        tasks = []
        for group, start, stop in zip(groups, ends[:-1], ends[1:], strict=True):
            np.concatenate([inner for _, _, inner in group.terms.values()], axis=1, out=self.w_table[:, start:stop])
            self.waiting.append(Waiting(group.inner_bits, group.rows(), group.factor(0), group.factor(1)))
            tasks.append((self.waiting[-1], self.x_table[:, start:stop]))
        del groups, group
        in_threads(self._fold, tasks)
        self.entries = Entries()
        self.point: list[F] = []
        self._arrive()

    def _fold(self, group: Waiting, out: U64) -> None:
        """Contract X with heads and outer vectors; not needed if no variable is to be bound."""
        if group.inner_bits:
            table = kernels.fold_rows(self.x, group.rows, group.heads, group.outer, 1 << group.inner_bits)
            out[...] = table.reshape(2, -1)

    def round(self, eq_point: Sequence[F] | None = None) -> tuple[F, F]:
        self.entries.complete()
        t0, tinf = kernels.product_round(self.x_table, self.w_table)
        u0, uinf = kernels.product_round(self.entries.x, self.entries.w)
        return t0 + u0, tinf + uinf

    def bind(self, r: F) -> None:
        self.x_table, self.w_table = (kernels.bind(v, r, F.ZERO) for v in (self.x_table, self.w_table))
        self.entries.bind(r)
        if not self.point:
            self.masks = bound_lanes(self.masks, r)
        elif len(self.point) <= self.code.row_bits:
            flat = np.ascontiguousarray(self.masks).reshape(2, -1)
            self.masks = kernels.bind(flat, r, F.ZERO).reshape(2, self.masks.shape[1], -1)
        self.point.insert(0, r)
        self._arrive()

    def _arrive(self) -> None:
        """Groups whose inner variables are bound, and the masking rows when they are single entries, become entries."""
        level, low = len(self.point), min(len(self.point), LONGEST_ROW_BITS)
        high, eq = (ff.eq_table(part) for part in (self.point[: level - low], self.point[level - low :]))
        rows, w = [], []
        while self.waiting and self.waiting[-1].inner_bits == level:
            group = self.waiting.pop()
            count = group.heads.shape[1]
            w.append(kernels.sum_outer(self.w_table[:, -count:], group.heads, group.outer))
            rows.append(group.rows.ravel())
            self.x_table, self.w_table = self.x_table[:, :-count], self.w_table[:, :-count]
        if rows:
            starts = np.concatenate(rows)
            parts = starts[:, None] + (np.arange(1 << level - low) << low)
            x = kernels.dot_rows(self.x, parts.ravel(), eq).reshape(2, len(starts), -1, 1)
            x = kernels.fold_matrix_f(x, high[:, None]).reshape(2, -1)
            self.entries.add(starts >> level, x, np.concatenate(w, axis=1))
        if level == self.code.row_bits + 1:
            masks = self.masks.reshape(2, -1)
            self.entries.add(np.arange(self.code.mask_row, self.code.rows), masks, np.zeros_like(masks))

    def finals(self) -> list[tuple[F, F]]:
        """X~ and W~ at the point of all challenges."""
        return [(ff.f_item(self.entries.x, 0), ff.f_item(self.entries.w, 0))]
