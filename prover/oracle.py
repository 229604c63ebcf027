"""The prover's answers to the reductions: tables, fraction trees and the combined weight vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.channel import Channel
from circuits.ir import ceil_log2
from circuits.layout import Layout
from circuits.protocol import Claim, ProductJob
from circuits.witness import Witness
from zkcert.core import field as ff
from zkcert.core.code import MatrixCode
from zkcert.core.field import F
from zkcert.errors import ProofRejected

from . import kernels
from .channel import ProverChannel
from .tables import form_table, functional_value

U64 = NDArray[np.uint64]
SPAN_BLOCK_BITS = 16
LEAF_BLOCK = 1 << 20


class Products:
    """Tables of one product sum-check."""

    def __init__(self, job: ProductJob, witness: Witness) -> None:
        self.job = job
        self.pairs = [(form_table(witness, a, job), form_table(witness, b, job)) for a, b in job.pairs]
        self.left = sum(ax.bits for ax in job.kept)
        self.levels = kernels.eq_levels(job.eq_point, 1 << len(job.eq_point))

    def total(self) -> F:
        """sum_s e(s) sum_k A_k(s) B_k(s): t(0) of the round kernel over even, then over odd entries."""
        if self.left == 0:
            return sum((ff.f_item(a, 0) * ff.f_item(b, 0) for a, b in self.pairs), F.ZERO)
        eq, plain = self.levels[-1], self.left - len(self.job.eq_point)
        even, odd = (eq, eq) if plain else kernels.split_children(eq, F.ZERO)
        shift = max(plain - 1, 0)
        out = F.ZERO
        for a, b in self.pairs:
            out = out + kernels.product_round(even, shift, a, b)[0]
            a, b = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
            out = out + kernels.product_round(odd, shift, a, b)[0]
        return out

    def round(self, eq_point: Sequence[F] | None) -> tuple[F, F]:
        if eq_point is None:
            e = self.levels[-1]
            shift = self.left - 1 - len(self.job.eq_point)
        else:
            e, shift = self.levels[len(eq_point)], 0
        t0 = tinf = F.ZERO
        for a, b in self.pairs:
            x, y = kernels.product_round(e, shift, a, b)
            t0, tinf = t0 + x, tinf + y
        return t0, tinf

    def bind(self, r: F) -> None:
        self.pairs = [(kernels.bind(a, r, F.ZERO), kernels.bind(b, r, F.ZERO)) for a, b in self.pairs]
        self.left -= 1

    def finals(self) -> list[tuple[F, F]]:
        return [(ff.f_item(a, 0), ff.f_item(b, 0)) for a, b in self.pairs]


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


class ProverOracle:
    """Implements `circuits.protocol.Oracle` over a witness and the committed vector X."""

    def __init__(
        self,
        layout: Layout,
        witness: Witness,
        x: NDArray[np.int32],
        masks: U64,
        code: MatrixCode,
        strict: bool = False,
    ) -> None:
        """x: int32 (data_end,) digits and multiplicities; masks: F rows (2, 4, width)."""
        self.layout, self.witness, self.x, self.masks, self.code = layout, witness, x, masks, code
        self.strict = strict

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """In strict mode, compare every claim with the witness; the first false one is named."""
        if not self.strict:
            return
        assert isinstance(ch, ProverChannel)
        for claim in claims:
            if claim.functional.terms and functional_value(self.witness, claim.functional) != ch.value(claim.node):
                raise ProofRejected(f"constraint/{claim.name}")

    def products(self, job: ProductJob) -> Products:
        return Products(job, self.witness)

    def trees(self, alpha: F) -> tuple[Tree, Tree]:
        lay = self.layout
        seg = lay.segments
        starts = np.array([s.start for s in seg], np.int64)
        shifts = np.array([s.shift for s in seg], np.int64)
        classes = np.array([s.cls for s in seg], np.int64)

        def digits() -> tuple[U64 | None, U64]:
            return None, kernels.leaf_denominators(self.x[: lay.digit_count], starts, shifts, classes, alpha)

        def table() -> tuple[U64 | None, U64]:
            entries = np.concatenate([np.arange(size, dtype=np.int32) for size in lay.tables])
            firsts = np.cumsum([0, *lay.tables[:-1]])
            zero, cls = np.zeros(len(lay.tables), np.int64), np.arange(len(lay.tables))
            m = self.x[lay.multiplicity_start :].astype(np.int64)
            q = kernels.leaf_denominators(entries, firsts, zero, cls, alpha)
            return ff.f_from_fp(ff.fp_from_int(-m)), q

        return Tree(digits), Tree(table)

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> Batch:
        w = np.zeros((2, self.layout.data_end), np.uint64)
        for claim, weight in zip(claims, weights, strict=True):
            for span in claim.functional.spans:
                low = min(SPAN_BLOCK_BITS, len(span.point))
                head = ff.eq_table(span.point[: len(span.point) - low])
                block = kernels.eq_levels(list(span.point[len(span.point) - low :]), 1 << low)[-1]
                for i, start in enumerate(range(0, span.count, 1 << low)):
                    part = np.ascontiguousarray(block[:, : span.count - start])
                    kernels.axpy_outer(w, span.start + start, weight * ff.f_item(head, i), part)
            for term in claim.functional.terms:
                place = self.layout.places[term.tensor]
                for b, (start, length) in enumerate(place.blocks):
                    base = np.array([[[1]], [[0]]], np.uint64).reshape(2, 1)
                    for axis, bits in enumerate(place.axis_bits[b]):
                        vec = term.vecs[axis + 1]
                        if axis + 1 == term.tensor.split:
                            vec = vec[:, start : start + (1 << length)]
                        padded = np.zeros((2, 1 << bits), np.uint64)
                        padded[:, : vec.shape[1]] = vec
                        base = ff.f_mul(base[:, :, None], padded[:, None, :]).reshape(2, -1)
                    for d, coef in term.coefs.items():
                        for u in range(term.tensor.unroll):
                            c = weight * coef * ff.f_item(term.vecs[0], u)
                            if c:
                                kernels.axpy_outer(w, int(place.positions[b][d, u]), c, base)
        return Batch(self.x, self.masks, w, self.code)


def place_digits(layout: Layout, witness: Witness) -> NDArray[np.int32]:
    """The data part of X, int32 (data_end,): digit columns and the multiplicities they imply."""
    x = np.zeros(layout.data_end, np.int32)
    for t in layout.circuit.tensors:
        place, arr = layout.places[t], witness.array(t)
        for b, (start, length) in enumerate(place.blocks):
            bits = place.axis_bits[b]
            part = arr
            if t.split:
                part = np.take(arr, np.arange(start, min(start + (1 << length), t.sizes[t.split])), t.split + 1)
            column = np.zeros([1 << k for k in bits], np.int32)
            window = tuple(slice(n) for n in part.shape[2:])
            for d in range(len(t.digits)):
                for u in range(t.unroll):
                    column[window] = part[d, u]
                    at = int(place.positions[b][d, u])
                    x[at : at + column.size] = column.ravel()
    counts = [np.zeros(size, np.int64) for size in layout.tables]
    for seg in layout.segments:
        looked_up = x[seg.start : seg.stop].astype(np.int64) + seg.shift
        inside = looked_up[(looked_up >= 0) & (looked_up < layout.tables[seg.cls])]
        counts[seg.cls] += np.bincount(inside, minlength=layout.tables[seg.cls])
    x[layout.multiplicity_start :] = np.concatenate(counts)
    return x
