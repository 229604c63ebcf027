"""The prover's side of the last sum-check, which joins all claims on X."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.layout import Layout
from circuits.protocol import Claim
from zkcert.core import field as ff
from zkcert.core.code import MatrixCode
from zkcert.core.field import F

from . import kernels

U64 = NDArray[np.uint64]
SPAN_BLOCK_BITS = 16


class Batch:
    """The combined weight vector W and the sum-check of <X, W>; the masking rows join when rows are single entries."""

    def __init__(self, x: NDArray[np.int32], masks: U64, weights: U64, code: MatrixCode) -> None:
        self.x, self.masks, self.w, self.code = x, masks, weights, code
        self.table: U64 | None = None
        self.round_number = 0

    def round(self) -> tuple[F, F]:
        if self.table is None:
            return kernels.product_round_int(self.x, self.w)
        x, w = self.table, self.w
        if x.shape[1] % 2:
            x, w = (np.concatenate([v, np.zeros((2, 1), np.uint64)], axis=1) for v in (x, w))
            self.table, self.w = x, w
        return kernels.product_round(None, 0, x, w)

    def bind(self, r: F) -> None:
        if self.table is None:
            self.table = kernels.bind_int(self.x, r)
            lanes = ff.f_sub(ff.f_from_fp(self.masks[1]), ff.f_from_fp(self.masks[0]))
            self.masks = ff.f_add(ff.f_from_fp(self.masks[0]), ff.f_mul_scalar(lanes, r))
        else:
            self.table = kernels.bind(self.table, r, F.ZERO)
            if self.round_number <= self.code.row_bits:
                flat = np.ascontiguousarray(self.masks).reshape(2, -1)
                self.masks = kernels.bind(flat, r, F.ZERO).reshape(2, self.masks.shape[1], -1)
        self.w = kernels.bind(self.w, r, F.ZERO)
        self.round_number += 1
        if self.round_number == self.code.row_bits + 1:
            # One entry per row is left: put the masking rows in their place, with weight zero.
            rows = np.zeros((2, self.code.rows), np.uint64)
            rows[:, : self.table.shape[1]] = self.table
            rows[:, self.code.mask_row :] = self.masks[:, :, 0]
            w = np.zeros((2, self.code.rows), np.uint64)
            w[:, : self.w.shape[1]] = self.w
            self.table, self.w = rows, w

    def final(self) -> F:
        assert self.table is not None
        return ff.f_item(self.table, 0)


def combined_weights(layout: Layout, claims: Sequence[Claim], weights: Sequence[F]) -> U64:
    """sum_j weights[j] functional_j as a vector (2, data_end)."""
    w = np.zeros((2, layout.data_end), np.uint64)
    for claim, weight in zip(claims, weights, strict=True):
        for span in claim.functional.spans:
            low = min(SPAN_BLOCK_BITS, len(span.point))
            head = ff.eq_table(span.point[: len(span.point) - low])
            block = kernels.eq_levels(list(span.point[len(span.point) - low :]), 1 << low)[-1]
            for i, start in enumerate(range(0, span.count, 1 << low)):
                part = np.ascontiguousarray(block[:, : span.count - start])
                kernels.axpy_outer(w, span.start + start, weight * ff.f_item(head, i), part)
        for term in claim.functional.terms:
            place = layout.places[term.tensor]
            for b, block in enumerate(place.blocks):
                base = np.array([[[1]], [[0]]], np.uint64).reshape(2, 1)
                for axis, (start, bits) in enumerate(block.axes, 1):
                    vec = term.vecs[axis][:, start : start + (1 << bits)]
                    padded = np.zeros((2, 1 << bits), np.uint64)
                    padded[:, : vec.shape[1]] = vec
                    base = ff.f_mul(base[:, :, None], padded[:, None, :]).reshape(2, -1)
                for d, coef in term.coefs.items():
                    for u in range(term.tensor.unroll):
                        c = weight * coef * ff.f_item(term.vecs[0], u)
                        if c:
                            kernels.axpy_outer(w, int(place.positions[b][d, u]), c, base)
    return w
