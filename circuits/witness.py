"""Witness values: digits of every tensor, and exact evaluation of forms and expressions over a domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import RangeOverflow

from .ir import (
    DIGIT_BITS,
    DomainAxis,
    Expr,
    Form,
    Gather,
    GatherSum,
    Map,
    Same,
    Scaled,
    Source,
    SuffixGather,
    Sum,
    Tensor,
    View,
)
from .layout import Layout
from .wide import CarryStep
from .workers import by_rows

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Columns = tuple[tuple[slice, ...], I32]


@dataclass(frozen=True)
class Part:
    """Index `index` of the unrolled domain axis, and `rows` of the next axis."""

    axes: tuple[str, str]
    index: int
    rows: slice


class Witness:
    """The digits of each tensor, in their places in X: int32 (data_end,), zero where nothing was put.

    `index` is an unrolled index (None: all of them), `rows` a range of the first inner axis (None: all of it).
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.circuit = layout, layout.circuit
        self.x = np.zeros(layout.data_end, np.int32)
        self._columns: dict[tuple[Tensor, int], list[Columns]] = {}

    def columns(self, t: Tensor, d: int) -> list[Columns]:
        """Per block of digit d: its window within `t.shape`, and its columns as a view of X without their padding."""
        if (t, d) not in self._columns:
            place, out = self.layout.places[t], []
            for block, positions in zip(place.blocks, place.positions, strict=True):
                start, window = int(positions[d, 0]), block.window(t.shape)
                whole = self.x[start : start + (t.unroll << block.bits)]
                whole = whole.reshape(t.unroll, *(1 << bits for _, bits in block.axes))
                out.append((window, whole[(slice(None), *(slice(s.stop - s.start) for s in window))]))
            self._columns[t, d] = out
        return self._columns[t, d]

    def _pieces(self, t: Tensor, d: int, index: int | None, rows: slice | None) -> Iterator[Columns]:
        """Where the wanted part meets each block: the window within the part, and the view of X."""
        for window, view in self.columns(t, d):
            if rows is not None:
                first = window[0]
                start, stop = max(first.start, rows.start), min(first.stop, rows.stop)
                if start >= stop:
                    continue
                view = view[:, start - first.start : stop - first.start]
                window = (slice(start - rows.start, stop - rows.start), *window[1:])
            if index is None:
                yield (slice(None), *window), view
            else:
                yield window, view[index, ...]

    def _shape(self, t: Tensor, index: int | None, rows: slice | None) -> tuple[int, ...]:
        shape = t.shape if rows is None else (rows.stop - rows.start, *t.shape[1:])
        return shape if index is not None else (t.unroll, *shape)

    def digit(self, t: Tensor, d: int, index: int | None = None, rows: slice | None = None) -> I32:
        """Digit d, int32 `t.sizes`, or `t.shape` for one unrolled index; not to be written to.

        A view of X where the tensor has one block, else a copy.
        """
        if len(self.layout.places[t].blocks) == 1:
            ((_, view),) = self._pieces(t, d, index, rows)
            return view
        out = np.empty(self._shape(t, index, rows), np.int32)
        for window, view in self._pieces(t, d, index, rows):
            out[window] = view
        return out

    def region(self, t: Tensor, d: int, index: tuple[slice | int, ...]) -> I32:
        """Digit d restricted by an index per axis, the unrolled one first; slices of inner axes have step one.

        A view of X where the tensor has one block, else a copy of the region alone.
        """
        columns = self.columns(t, d)
        if len(columns) == 1:
            return columns[0][1][index]
        wanted = [
            range(n)[i] if isinstance(i, slice) else range(i, i + 1) for n, i in zip(t.shape, index[1:], strict=True)
        ]
        first = index[0] if isinstance(index[0], slice) else slice(index[0], index[0] + 1)
        out = np.empty((len(range(t.unroll)[first]), *map(len, wanted)), np.int32)
        for window, view in columns:
            spans = [(max(r.start, s.start), min(r.stop, s.stop)) for r, s in zip(wanted, window, strict=True)]
            if all(start < stop for start, stop in spans):
                into = tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(spans, wanted, strict=True))
                source = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(spans, window, strict=True))
                out[(slice(None), *into)] = view[(first, *source)]
        return out[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]

    def array(self, t: Tensor) -> I32:
        """A copy of all digits, (n_digits, *t.sizes)."""
        return np.stack([self.digit(t, d) for d in range(len(t.digits))])

    def write(
        self,
        t: Tensor,
        d: int,
        values: NDArray[np.generic],
        index: int | None = None,
        rows: slice | None = None,
    ) -> None:
        """Overwrite digit d with integers of any kind, of the shape `digit` has; nothing is checked."""
        for window, view in self._pieces(t, d, index, rows):
            view[...] = values[window]

    def put(self, t: Tensor, values: NDArray[np.generic], index: int | None = None, rows: slice | None = None) -> None:
        """Decompose integer `values` (of the shape `digit` has) into digits.

        Raises RangeOverflow when a value has no such digits.
        """
        v = np.asarray(values).reshape(self._shape(t, index, rows))
        if index is None:
            for u in range(t.unroll):
                self.put(t, v[u, ...], u, rows)
        elif rows is None and t.shape:
            by_rows(t.shape, lambda part: self._put(t, v[part], index, part))
        else:
            self._put(t, v, index, rows)

    def _put(self, t: Tensor, values: NDArray[np.generic], index: int, rows: slice | None) -> None:
        values = values.reshape(values.shape or (1,))  # numpy makes numbers of arrays without axes
        rest: NDArray[Any] = values if values.dtype == object else values.astype(np.int64, copy=False)
        for i, d in enumerate(t.digits):
            digit, exact = rest, False
            if i + 1 < len(t.digits):
                width = t.digits[i + 1].shift - d.shift
                digit, rest = (rest - d.range.lo) & ((1 << width) - 1), (rest - d.range.lo) >> width
                digit, exact = digit + d.range.lo, d.range.size == 1 << width
            if not exact and (digit.min() < d.range.lo or digit.max() > d.range.hi):
                bad = (digit < d.range.lo) | (digit > d.range.hi)
                lo, hi = t.bounds()
                worst = int(values[bad].ravel()[np.argmax(np.abs(values[bad].astype(float)))])
                raise RangeOverflow(t.name, float(worst), float(hi if worst > 0 else -lo))
            self.write(t, i, digit.reshape(self._shape(t, index, rows)), index, rows)

    def value(self, t: Tensor, index: int | None = None, rows: slice | None = None) -> I64:
        """The whole values as int64 (for tensors below 2^63)."""
        out = np.zeros(self._shape(t, index, rows), np.int64)
        for i, d in enumerate(t.digits):
            for window, view in self._pieces(t, i, index, rows):
                out[window] += view.astype(np.int64) << d.shift
        return out

    def digits(self, t: Tensor, index: int, rows: slice | None = None) -> list[I64]:
        """All digits of one unrolled index, int64 copies."""
        return [self.digit(t, d, index, rows).astype(np.int64) for d in range(len(t.digits))]

    # -- evaluation over a domain

    def read(self, view: View, d: int, axes: Sequence[DomainAxis], at: Part | None = None) -> I64:
        """Digit `d` of the view for every index of the domain axes (of `at` only); absent axes have length 1."""
        sources, index, rows = view.sources[1:], None, None
        names: list[str] = []
        if at and at.axes[0] in view.sources[0].axes:
            first = view.sources[0]
            index = first.table[at.index] if isinstance(first, Map) else at.index
        else:
            sources = view.sources
        if at and index is not None and isinstance(sources[0], Same) and sources[0].axis == at.axes[1]:
            rows = at.rows
        arr = self.digit(view.tensor, d, index, rows).astype(np.int64)
        axis = 0
        for src in sources:
            arr, new = _read_axis(arr, axis, src)
            names += new
            axis += len(new)
        if at and rows is None and at.axes[1] in names:
            arr = arr[(slice(None),) * names.index(at.axes[1]) + (at.rows,)]
        order = [names.index(a.name) for a in axes if a.name in names]
        arr = arr.transpose(order)
        shape = iter(arr.shape)
        return np.asarray(arr.reshape([next(shape) if a.name in names else 1 for a in axes]), np.int64)

    def form(self, f: Form, axes: Sequence[DomainAxis], at: Part | None = None) -> I64:
        out = np.zeros([1] * len(axes), np.int64)
        for v, d, c in f.terms:
            assert isinstance(c, int)
            term = self.read(v, d, axes, at)
            out = out + (term if c == 1 else term * np.int64(c))
        return out

    def linear_part(self, e: Expr, axes: Sequence[DomainAxis], at: Part | None = None) -> I64:
        """Linear form and constants of an expression over the domain (int64, exact by the bound checks)."""
        if at:
            rows = at.rows.stop - at.rows.start
            axes = [DomainAxis(a.name, rows if a.name == at.axes[1] else a.size) for a in axes if a.name != at.axes[0]]
        out = np.broadcast_to(self.form(e.linear, axes, at), [a.size for a in axes]).copy()
        names = [a.name for a in axes]
        for c in e.constants:
            w = np.array(c.coef, np.int64)
            for name, weights in c.weights:
                shape = [1] * len(axes)
                own = weights[at.rows] if at and name == at.axes[1] else weights
                shape[names.index(name)] = len(own)
                w = w * np.array(own, np.int64).reshape(shape)
            out += w
        return out

    def expression(self, e: Expr, axes: Sequence[DomainAxis], summed: Sequence[DomainAxis] = ()) -> I64:
        """Value of an expression for every output index; products are summed over `summed` (small domains)."""
        out = self.linear_part(e, axes)
        every = (*axes, *summed)
        for a, b in e.products:
            p = np.broadcast_to(self.form(a, every) * self.form(b, every), [x.size for x in every])
            out += p.sum(axis=tuple(range(len(axes), len(every))), dtype=np.int64) if summed else p
        return out

    def fill_carries(
        self,
        steps: list[CarryStep],
        axes: Sequence[DomainAxis],
        summed: Sequence[DomainAxis] = (),
    ) -> None:
        """Fill the carries of `wide.assert_zero` (small domains)."""
        carry: I64 | int = 0
        for s in steps:
            if s.carry is not None:
                carry = (self.expression(s.value, axes, summed) + carry) >> (DIGIT_BITS * (s.last - s.first))
                self.put(s.carry.tensor, carry)

    def fill_carries_of(
        self, steps: list[CarryStep], axes: Sequence[DomainAxis], products: Sequence[I64], at: Part
    ) -> None:
        """The same for one part; `products[k]` is the bilinear part of limb k for every output index of it."""
        carry: I64 | int = 0
        for s in steps:
            if s.carry is None:
                continue
            total = self.linear_part(s.value, axes, at)
            total += carry
            for k in range(s.first, min(s.last, len(products))):
                total += products[k] << (DIGIT_BITS * (k - s.first)) if k > s.first else products[k]
            carry = total >> (DIGIT_BITS * (s.last - s.first))
            self.put(s.carry.tensor, carry, at.index, at.rows)


def _read_axis(arr: I64, axis: int, src: Source) -> tuple[I64, list[str]]:
    """Replace tensor axis `axis` by the domain axes of its source."""
    if isinstance(src, Same):
        return arr, [src.axis]
    if isinstance(src, Scaled):
        return arr * np.array(src.weights, np.int64).reshape([-1] + [1] * (arr.ndim - axis - 1)), [src.axis]
    if isinstance(src, Map):
        return _take(arr, np.array(src.table), axis), [src.axis]
    if isinstance(src, Gather):
        return _take(arr, src.table.index, axis), [src.k, src.s]
    if isinstance(src, SuffixGather):
        return np.cumsum(_take(arr, src.table.index, axis), axis=axis), [src.k, src.s]
    if isinstance(src, GatherSum):
        return _take(arr, src.table.index, axis).sum(axis=axis), [src.s]
    if isinstance(src, Sum):
        w = np.ones(src.size, np.int64) if src.weights is None else np.array(src.weights)
        return np.asarray(np.tensordot(arr, w, axes=(axis, 0)), np.int64), []
    raise TypeError(f"unknown source {src}")


def _take(arr: I64, index: NDArray[np.int64], axis: int) -> I64:
    out = np.take(arr, np.maximum(index, 0), axis=axis)
    shape = [1] * axis + list(index.shape) + [1] * (arr.ndim - axis - 1)
    return out * (index >= 0).reshape(shape)
