"""Witness values: digits of every tensor, and exact evaluation of forms and expressions over a domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import RangeOverflow

from .ir import (
    DIGIT_BITS,
    Circuit,
    DomainAxis,
    Expr,
    Form,
    Gather,
    GatherSum,
    Map,
    Same,
    Source,
    SuffixGather,
    Sum,
    Tensor,
    View,
)
from .wide import CarryStep

I64 = NDArray[np.int64]
At = tuple[str, int] | None


class Witness:
    """The digits of each tensor: int32 arrays (n_digits, unroll, *shape), zero where nothing was put."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.digits: dict[Tensor, NDArray[np.int32]] = {}

    def array(self, t: Tensor) -> NDArray[np.int32]:
        if t not in self.digits:
            self.digits[t] = np.zeros((len(t.digits), *t.sizes), np.int32)
        return self.digits[t]

    def digit(self, t: Tensor, d: int, index: int | None = None) -> NDArray[np.int32]:
        """Digit d, int32 `t.sizes`, or `t.shape` for one unrolled index; not to be written to."""
        return self.array(t)[d] if index is None else self.array(t)[d, index]

    def put(self, t: Tensor, values: NDArray[np.generic], index: int | None = None) -> None:
        """Decompose integer `values` (shape `t.sizes`, or `t.shape` for one unrolled index) into digits.

        Raises RangeOverflow when a value has no such digits.
        """
        target = self.array(t) if index is None else self.array(t)[:, index]
        v = np.asarray(values).reshape(target.shape[1:])
        rest = v
        for i, d in enumerate(t.digits):
            if i + 1 == len(t.digits):
                digit = rest
            else:
                width = t.digits[i + 1].shift - d.shift
                digit = ((rest - d.range.lo) & ((1 << width) - 1)) + d.range.lo
                rest = (rest - digit) >> width
            bad = (digit < d.range.lo) | (digit > d.range.hi)
            if np.any(bad):
                lo, hi = t.bounds()
                worst = int(v[bad].ravel()[np.argmax(np.abs(v[bad].astype(float)))])
                raise RangeOverflow(t.name, float(worst), float(hi if worst > 0 else -lo))
            target[i] = digit.astype(np.int32)

    def value(self, t: Tensor, index: int | None = None) -> I64:
        """The whole values as int64 (for tensors below 2^63)."""
        arr = self.array(t) if index is None else self.array(t)[:, index]
        out = np.zeros(arr.shape[1:], np.int64)
        for i, d in enumerate(t.digits):
            out += arr[i].astype(np.int64) << d.shift
        return out

    # -- evaluation over a domain

    def read(self, view: View, d: int, axes: Sequence[DomainAxis], at: At = None) -> I64:
        """Digit `d` of the view for every index of the domain axes; absent axes have length 1.

        `at = (axis, index)` reads one index of that (unrolled) axis only.
        """
        arr = self.array(view.tensor)[d]
        names: list[str] = []
        axis = 0
        sources = view.sources
        if at and at[0] in sources[0].axes:
            index = sources[0].table[at[1]] if isinstance(sources[0], Map) else at[1]
            arr, sources = arr[index], sources[1:]
        arr = arr.astype(np.int64)
        for src in sources:
            arr, new = _read_axis(arr, axis, src)
            names += new
            axis += len(new)
        order = [names.index(a.name) for a in axes if a.name in names]
        arr = arr.transpose(order)
        shape = [a.size if a.name in names else 1 for a in axes]
        return np.asarray(arr.reshape(shape), np.int64)

    def form(self, f: Form, axes: Sequence[DomainAxis], at: At = None) -> I64:
        out = np.zeros([1] * len(axes), np.int64)
        for v, d, c in f.terms:
            assert isinstance(c, int)
            out = out + self.read(v, d, axes, at) * np.int64(c)
        return out

    def linear_part(self, e: Expr, axes: Sequence[DomainAxis], at: At = None) -> I64:
        """Linear form and constants of an expression over the full domain (int64, exact by the bound checks)."""
        axes = [a for a in axes if not at or a.name != at[0]]
        out = np.broadcast_to(self.form(e.linear, axes, at), [a.size for a in axes]).copy()
        names = [a.name for a in axes]
        for c in e.constants:
            w = np.array(c.coef, np.int64)
            for name, weights in c.weights:
                shape = [1] * len(axes)
                shape[names.index(name)] = len(weights)
                w = w * np.array(weights, np.int64).reshape(shape)
            out += w
        return out

    def expression(self, e: Expr, axes: Sequence[DomainAxis], summed: Sequence[DomainAxis] = (), at: At = None) -> I64:
        """Value of an expression for every output index; products are summed over `summed` (small domains)."""
        out = self.linear_part(e, axes, at)
        axes = [a for a in axes if not at or a.name != at[0]]
        every = (*axes, *summed)
        for a, b in e.products:
            p = np.broadcast_to(self.form(a, every, at) * self.form(b, every, at), [x.size for x in every])
            out += p.sum(axis=tuple(range(len(axes), len(every))), dtype=np.int64) if summed else p
        return out

    def fill_carries(
        self,
        steps: list[CarryStep],
        axes: Sequence[DomainAxis],
        products: Sequence[I64] | None = None,
        summed: Sequence[DomainAxis] = (),
        at: At = None,
    ) -> None:
        """Fill the carries of `wide.assert_zero`.

        `products[k]`: the bilinear part of limb k for every output index, if the caller has it already.
        `at = (axis, index)`: only for that index of the unrolled axis.
        """
        carry: I64 | int = 0
        for s in steps:
            if products is None:
                total = self.expression(s.value, axes, summed, at) + carry
            else:
                total = self.linear_part(s.value, axes, at) + carry
                for k in range(s.first, min(s.last, len(products))):
                    total = total + (products[k] << (DIGIT_BITS * (k - s.first)))
            if s.carry is None:
                continue
            carry = total >> (DIGIT_BITS * (s.last - s.first))
            self.put(s.carry.tensor, carry, at[1] if at else None)


def _read_axis(arr: I64, axis: int, src: Source) -> tuple[I64, list[str]]:
    """Replace tensor axis `axis` by the domain axes of its source."""
    if isinstance(src, Same):
        return arr, [src.axis]
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
