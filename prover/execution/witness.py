"""Witness values: digits of every tensor, and exact evaluation of forms and expressions over a domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.language.constraints import Constraint, Expr
from circuits.language.drawn import Weighed, WeighedAlike, WeighedGather
from circuits.language.forms import Form, View
from circuits.language.layout import Layout
from circuits.language.sources import Axis, Gather, GatherSum, Map, Scaled, Source, SuffixGather, Sum, TailGather
from circuits.language.tensors import DIGIT_BITS, Tensor
from circuits.language.wide import CarryStep
from zkcert.errors import RangeOverflow

from .workers import by_rows

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Index = int | slice
Window = Mapping[str, slice]
Box = tuple[slice, ...]
WHOLE = slice(None)
EVERYTHING: Window = {}


@dataclass(frozen=True)
class Part:
    """Index `index` of the unrolled domain axis, and `rows` of the next axis."""

    axes: tuple[str, str]
    index: int
    rows: slice

    @property
    def window(self) -> Window:
        return {self.axes[0]: slice(self.index, self.index + 1), self.axes[1]: self.rows}


def indices(index: Index, size: int) -> range:
    """What an int, or a slice with a positive step, picks of an axis; IndexError for whatever is not inside it.

    Negative numbers count from no end here: -1 is how index tables say that nothing is read.
    """
    if isinstance(index, slice):
        start = 0 if index.start is None else index.start
        stop = size if index.stop is None else index.stop
        step = 1 if index.step is None else index.step
        if 0 <= start <= stop <= size and step > 0:
            return range(start, stop, step)
    elif 0 <= index < size:
        return range(index, index + 1)
    raise IndexError(f"{index} picks nothing that an axis of {size} entries has")


def meet(wanted: range, block: slice) -> tuple[slice, slice] | None:
    """The indices of `wanted` inside a block: their places within `wanted`, and within the block."""
    first, stop = (-((wanted.start - end) // wanted.step) for end in (block.start, block.stop))  # rounded up
    first, stop = max(first, 0), min(stop, len(wanted))
    if first >= stop:
        return None
    inside = slice(wanted[first] - block.start, wanted[stop - 1] - block.start + 1, wanted.step)
    return slice(first, stop), inside


class Witness:
    """The digits of each tensor, in their places in X: int32 (data_end,), zero where nothing was put.

    `index` is an unrolled index (None: all of them), `rows` a range of the first inner axis (None: all of it).
    """

    def __init__(self, layout: Layout, x: I32 | None = None) -> None:
        """x: zeros, int32 (data_end,), where X is to be kept; None: in new memory."""
        self.layout, self.circuit = layout, layout.circuit
        self.x = np.zeros(layout.data_end, np.int32) if x is None else x
        assert self.x.shape == (layout.data_end,)
        self._columns: dict[tuple[Tensor, int], list[tuple[Box, I32]]] = {}

    def columns(self, t: Tensor, d: int) -> list[tuple[Box, I32]]:
        """Per block of digit d: its window within `t.sizes`, and its columns as a view of X without their padding."""
        if (t, d) not in self._columns:
            place, out = self.layout.places[t], []
            for block, positions in zip(place.blocks, place.positions, strict=True):
                start, window = int(positions[d, 0]), block.window(t.shape)
                whole = self.x[start : start + (t.unroll << block.bits)]
                whole = whole.reshape(t.unroll, *(1 << bits for _, bits in block.axes))
                view = whole[(WHOLE, *(slice(s.stop - s.start) for s in window))]
                out.append(((slice(0, t.unroll), *window), view))
            self._columns[t, d] = out
        return self._columns[t, d]

    def _pieces(self, t: Tensor, d: int, wanted: Sequence[range]) -> Iterator[tuple[Box, I32]]:
        """Where the wanted indices of each axis meet each block: the box within them, and the view of X.

        All reading and writing of digits goes through here; nothing else knows of blocks.
        """
        for window, view in self.columns(t, d):
            parts = [part for r, s in zip(wanted, window, strict=True) if (part := meet(r, s))]
            if len(parts) == len(wanted):
                yield tuple(into for into, _ in parts), view[tuple(inside for _, inside in parts)]

    @staticmethod
    def _at(t: Tensor, index: int | None, rows: slice | None) -> tuple[Index, ...]:
        """`index` and `rows` as an index per axis."""
        inner = [WHOLE] * len(t.shape)
        if rows is not None:
            inner[0] = rows
        return (WHOLE if index is None else index, *inner)

    def _wanted(self, t: Tensor, index: int | None, rows: slice | None) -> list[range]:
        return [indices(i, size) for i, size in zip(self._at(t, index, rows), t.sizes, strict=True)]

    def _shape(self, t: Tensor, index: int | None, rows: slice | None) -> tuple[int, ...]:
        return tuple(map(len, self._wanted(t, index, rows)))[index is not None :]

    def region(self, t: Tensor, d: int, at: Sequence[Index]) -> I32:
        """Digit d at an index per axis, the unrolled one first: ints, which drop the axis, and slices as `indices`
        takes them. int32, not to be written to: a view of X where the tensor has one block, else a copy.
        """
        wanted = [indices(i, size) for i, size in zip(at, t.sizes, strict=True)]
        if len(self.layout.places[t].blocks) == 1:
            out = self.columns(t, d)[0][1][tuple(slice(r.start, r.stop, r.step) for r in wanted)]
        else:
            out = np.empty([len(r) for r in wanted], np.int32)
            for into, view in self._pieces(t, d, wanted):
                out[into] = view
        return out.squeeze(tuple(axis for axis, i in enumerate(at) if not isinstance(i, slice)))

    def digit(self, t: Tensor, d: int, index: int | None = None, rows: slice | None = None) -> I32:
        """Digit d, int32 `t.sizes`, or `t.shape` for one unrolled index; as `region`."""
        return self.region(t, d, self._at(t, index, rows))

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
        values = values if index is None else values[None]
        for into, view in self._pieces(t, d, self._wanted(t, index, rows)):
            view[...] = values[into]

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
                # what honest executions can put out of range has 32 fractional bits
                limit = (hi + 1 if worst > 0 else -lo) / 2.0**32
                raise RangeOverflow(t.name, worst / 2.0**32, limit, "scale the model or its inputs down")
            self.write(t, i, digit.reshape(self._shape(t, index, rows)), index, rows)

    def value(self, t: Tensor, index: int | None = None, rows: slice | None = None) -> I64:
        """The whole values as int64 (for tensors below 2^63)."""
        wanted = self._wanted(t, index, rows)
        out = np.zeros([len(r) for r in wanted], np.int64)
        for i, d in enumerate(t.digits):
            for into, view in self._pieces(t, i, wanted):
                out[into] += view.astype(np.int64) << d.shift
        return out if index is None else out[0, ...]

    def digits(self, t: Tensor, index: int, rows: slice | None = None) -> list[I64]:
        """All digits of one unrolled index, int64 copies."""
        return [self.digit(t, d, index, rows).astype(np.int64) for d in range(len(t.digits))]

    # -- evaluation over a domain

    def read(self, view: View, d: int, axes: Sequence[Axis], window: Window = EVERYTHING) -> I64:
        """Digit `d` of the view over the window of the domain axes; axes that it does not read have length 1."""
        picked = [pick(src, window) if isinstance(src, Axis | Map | Gather) else (WHOLE, None) for src in view.sources]
        arr = self.region(view.tensor, d, [index for index, _ in picked]).astype(np.int64)
        names: list[str] = []
        for src, (_, table) in zip(view.sources, picked, strict=True):
            if table is not None:
                arr = take(arr, len(names), table)
            elif not isinstance(src, Axis | Map):
                arr = _read_axis(arr, len(names), src)
                arr = arr[(*(WHOLE for _ in names), *(window.get(name, WHOLE) for name in src.axes))]
            names += src.axes
        order = [names.index(a.name) for a in axes if a.name in names]
        arr = arr.transpose(order)
        shape = iter(arr.shape)
        return np.asarray(arr.reshape([next(shape) if a.name in names else 1 for a in axes]), np.int64)

    def form(self, f: Form, axes: Sequence[Axis], window: Window = EVERYTHING) -> I64:
        out = np.zeros([1] * len(axes), np.int64)
        for v, d, c in f.terms:
            assert isinstance(c, int)
            term = self.read(v, d, axes, window)
            out = out + (term if c == 1 else term * np.int64(c))
        return out

    def linear_part(self, e: Expr, axes: Sequence[Axis], window: Window = EVERYTHING) -> I64:
        """Linear form and constants of an expression over the domain (int64, exact by the bound checks)."""
        sizes = [len(range(a.size)[window.get(a.name, WHOLE)]) for a in axes]
        out = np.broadcast_to(self.form(e.linear, axes, window), sizes).copy()
        names = [a.name for a in axes]
        for c in e.constants:
            w = np.array(c.coef, np.int64)
            for name, weights in c.weights:
                shape = [1] * len(axes)
                shape[names.index(name)] = -1
                w = w * np.array(weights[window.get(name, WHOLE)], np.int64).reshape(shape)
            out += w
        return out

    def expression(self, e: Expr, axes: Sequence[Axis], summed: Sequence[Axis] = ()) -> I64:
        """Value of an expression for every output index; products are summed over `summed` (small domains)."""
        out = self.linear_part(e, axes)
        every = (*axes, *summed)
        for a, b in e.products:
            p = np.broadcast_to(self.form(a, every) * self.form(b, every), [x.size for x in every])
            out += p.sum(axis=tuple(range(len(axes), len(every))), dtype=np.int64) if summed else p
        return out

    def fill_carries_in(self, con: Constraint) -> None:
        """Fill the carries of all wide identities of a constraint (small domains)."""
        for steps in con.carries:
            self.fill_carries(steps, con.out, con.summed)

    def fill_carries(self, steps: list[CarryStep], axes: Sequence[Axis], summed: Sequence[Axis] = ()) -> None:
        """Fill the carries of one."""
        carry: I64 | int = 0
        for s in steps:
            if s.carry is not None:
                carry = (self.expression(s.value, axes, summed) + carry) >> (DIGIT_BITS * (s.last - s.first))
                self.put(s.carry.tensor, carry)

    def fill_carries_of(
        self, steps: list[CarryStep], axes: Sequence[Axis], products: Sequence[I64] | None, at: Part
    ) -> None:
        """The same for one part; `products[k]` is the bilinear part of limb k for every output index of it, None if it
        is to be evaluated (where nothing is summed)."""
        carry: I64 | int = 0
        for s in steps:
            if s.carry is None:
                continue
            total = self.linear_part(s.value, axes, at.window)[0, ...]
            total += carry
            for a, b in s.value.products if products is None else ():
                total += (self.form(a, axes, at.window) * self.form(b, axes, at.window))[0, ...]
            for k in range(s.first, min(s.last, len(products or ()))):
                assert products is not None
                total += products[k] << (DIGIT_BITS * (k - s.first)) if k > s.first else products[k]
            carry = total >> (DIGIT_BITS * (s.last - s.first))
            self.put(s.carry.tensor, carry, at.index, at.rows)


def pick(src: Axis | Map | Gather, window: Window) -> tuple[Index, I64 | None]:
    """A source that reads single entries, over the window of its axes: what to read of the tensor axis, and then the
    index table by which `take` replaces it, if one is needed."""
    if isinstance(src, Axis):
        return window.get(src.name, WHOLE), None
    if isinstance(src, Map):
        table = src.table[window.get(src.axis, WHOLE)]
        run = table_slice(table)
        return (WHOLE, np.array(table)) if run is None else (run, None)
    return WHOLE, src.table.index[window.get(src.k, WHOLE), window.get(src.s, WHOLE)]


def table_slice(table: Sequence[int]) -> slice | None:
    """The slice that picks the entries of an index table, if one does."""
    first, step = table[0], table[1] - table[0] if len(table) > 1 else 1
    last = first + step * (len(table) - 1)
    if first < 0 or step < 1 or tuple(range(first, last + 1, step)) != tuple(table):
        return None
    return slice(first, last + 1, step)


def take(x: NDArray[Any], axis: int, index: I64) -> NDArray[Any]:
    """Replace `axis` by the axes of `index`; -1 reads zero."""
    out: NDArray[Any] = np.take(x, np.maximum(index, 0), axis=axis)
    absent = index < 0
    if absent.any():
        out *= ~absent.reshape([1] * axis + list(index.shape) + [1] * (x.ndim - axis - 1))
    return out


def _read_axis(arr: I64, axis: int, src: Source) -> I64:
    """Replace tensor axis `axis` by the domain axes of a source that sums or scales entries."""
    if isinstance(src, Scaled):
        return arr * np.array(src.weights, np.int64).reshape([-1] + [1] * (arr.ndim - axis - 1))
    if isinstance(src, SuffixGather):
        return np.cumsum(take(arr, axis, src.table.index), axis=axis)
    if isinstance(src, TailGather):
        x = take(arr, axis, src.table.index)
        after = np.flip(np.cumsum(np.flip(x, axis), axis=axis), axis) - x
        return after * (src.table.index >= 0).reshape(*src.table.shape, *[1] * (arr.ndim - axis - 1))
    if isinstance(src, GatherSum):
        return np.asarray(take(arr, axis, src.table.index).sum(axis=axis), np.int64)
    if isinstance(src, Sum):
        w = np.ones(src.size, np.int64) if src.weights is None else np.array(src.weights)
        return np.asarray(np.tensordot(arr, w, axes=(axis, 0)), np.int64)
    if isinstance(src, Weighed):
        return np.asarray(np.tensordot(arr, src.weights(src.size), axes=(axis, 0)), np.int64)
    if isinstance(src, WeighedGather):
        entries = take(arr, axis, src.table.index)
        return np.asarray(np.tensordot(entries, src.weights(src.count), axes=(axis + (not src.rows), 0)), np.int64)
    if isinstance(src, WeighedAlike):
        index, table = pick(src.inner, EVERYTHING)
        arr = arr[(*(WHOLE for _ in range(axis)), index)] * src.weight
        return arr if table is None else take(arr, axis, table)
    raise TypeError(f"unknown source {src}")
