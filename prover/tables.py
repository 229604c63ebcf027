"""Digits read over the axes of a product job, tables of forms over its kept axes, and values of functionals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.argument.claims import Functional, ProductJob
from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Gather, Map, Sum
from prover.execution.witness import WHOLE, Index, Window, Witness, pick, take
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels

U64 = NDArray[np.uint64]
Digit = tuple[View, int]


def distinct_digits(job: ProductJob) -> list[Digit]:
    """Every (view, digit) the operands of a job read, once."""
    return list(dict.fromkeys((v, d) for pair in job.pairs for form in pair for v, d, _ in form.terms))


def readable(view: View, job: ProductJob) -> bool:
    """Whether the view reads single digits over the kept axes only."""
    kept = {ax.name for ax in job.kept}
    return view.axes <= kept and all(
        isinstance(src, Axis | Map | Gather) or (isinstance(src, Sum) and src.size == 1 and src.weights is None)
        for src in view.sources
    )


# ------------------------------------------------------------------------------------------------ reading


def read(
    w: Witness, digit: Digit, axes: Sequence[Axis], window: Window, private: frozenset[str] = frozenset()
) -> tuple[NDArray[np.int32], list[tuple[str, ...]]]:
    """A digit over the window of its axes, and the axis names of its dimensions.

    A source that reads an axis in `private` keeps the tensor's own axis (its names are then the source's).
    """
    view, d = digit
    basic: list[Index] = []
    takes: list[tuple[int, NDArray[np.int64]]] = []
    names: list[tuple[str, ...]] = []
    for src in view.sources:
        if set(src.axes) & private or (isinstance(src, Sum) and not (src.size == 1 and src.weights is None)):
            basic.append(WHOLE)
            names.append(src.axes)
        elif isinstance(src, Axis | Map | Gather):
            index, table = pick(src, window)
            if table is not None:
                takes.append((len(names), table))
            basic.append(index)
            names.append(src.axes)
        elif isinstance(src, Sum):
            basic.append(0)
        else:
            raise TypeError(f"{view.tensor.name}: {src} cannot be an operand")
    x = w.region(view.tensor, d, basic)
    for axis, index in reversed(takes):
        x = take(x, axis, index)
        if index.ndim == 2:
            names[axis : axis + 1] = [(name,) for name in names[axis]]
    return x, names


def aligned(x: NDArray[Any], names: Sequence[str], axes: Sequence[Axis]) -> NDArray[Any]:
    """x with its trailing dimensions in the order of `axes`, of length 1 where it lacks one; others have length 1."""
    known = {ax.name for ax in axes}
    x = x[(..., *(WHOLE if name in known else 0 for name in names))]
    names = [name for name in names if name in known]
    lead = x.ndim - len(names)
    x = x.transpose(*range(lead), *(lead + names.index(ax.name) for ax in axes if ax.name in names))
    return x[(..., *(WHOLE if ax.name in names else None for ax in axes))]


def read_block(
    w: Witness, digits: Sequence[Digit], axes: Sequence[Axis], window: Window, length: int
) -> NDArray[np.int32]:
    """The digits over the window of the kept axes, int32 (n, rows, length): zero behind the end of the last axis."""
    shape = [len(range(ax.size)[window.get(ax.name, WHOLE)]) for ax in axes]
    last = shape.pop() if shape else 1
    out = np.empty((len(digits), *shape, length), np.int32)
    out[..., last:] = 0
    for target, digit in zip(out, digits, strict=True):
        x, names = read(w, digit, axes, window)
        target[..., :last] = aligned(x, [n for group in names for n in group], axes)
    return out.reshape(len(digits), -1, length)


# ------------------------------------------------------------------------------------------------ folding


class Folded:
    """An array with named axes, integers until the first fold and field elements after it."""

    def __init__(self, data: NDArray[np.int32]) -> None:
        self.ints: NDArray[np.int32] | None = data
        self.data: U64 = np.empty((2, 0), np.uint64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ints.shape if self.ints is not None else self.data.shape[1:]

    def fold(self, axis: int, matrix: U64) -> None:
        """Contract `axis` with matrix (2, rows, n); the axis is left with length `rows`."""
        shape = self.shape
        outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        rows = matrix.shape[1]
        matrix = np.ascontiguousarray(matrix)
        if self.ints is not None:
            out = kernels.fold_matrix(self.ints.reshape(outer, shape[axis], inner), matrix)
            self.ints = None
        else:
            out = kernels.fold_matrix_f(self.data.reshape(2, outer, shape[axis], inner), matrix)
        self.data = out.reshape(2, *shape[:axis], rows, *shape[axis + 1 :])

    def take(self, axis: int, index: NDArray[np.int64]) -> None:
        """Replace `axis` by the axes of `index`; -1 reads zero."""
        if self.ints is not None:
            self.ints = take(self.ints, axis, index)
        else:
            self.data = take(self.data, axis + 1, index)

    def squeeze(self, axis: int) -> None:
        if self.ints is not None:
            self.ints = self.ints.squeeze(axis)
        else:
            self.data = self.data.squeeze(axis + 1)

    def elements(self) -> U64:
        """The data as field elements."""
        return self.data if self.ints is None else ff.f_from_fp(ff.fp_from_int(self.ints.astype(np.int64)))


def gather_matrix(src: Gather, vecs: Mapping[str, U64]) -> U64:
    """(2, length of k, size): axis s is folded into the index table."""
    out = np.zeros((2, src.table.index.shape[0], src.size), np.uint64)
    for k, row in enumerate(src.table.index):
        s = np.flatnonzero(row >= 0)
        out[:, k, row[s]] = vecs[src.s][:, s]
    return out


def folded_digit(w: Witness, digit: Digit, job: ProductJob) -> tuple[U64, list[str]]:
    """A digit with private axes folded, (2, ...), and the names of the kept axes it reads."""
    view = digit[0]
    x, names = read(w, digit, job.kept, {}, frozenset(job.vecs))
    t = Folded(x)
    folds: list[tuple[bool, int, int]] = []  # whole folds first, the longest axis first
    sources = {src.axes: src for src in view.sources}
    plain = [src for src in view.sources if isinstance(src, Sum) and not (src.size == 1 and src.weights is None)]
    kept = {ax.name for ax in job.kept}
    for i, group in enumerate(names):
        if not set(group) <= kept or not group:
            folds.append((bool(set(group) & kept), -t.shape[i], i))
    dropped = []
    for partial, _, i in sorted(folds):
        group = names[i]
        if partial:
            src = sources[group]
            assert isinstance(src, Gather)
            if src.k in kept:
                t.fold(i, gather_matrix(src, job.vecs))
            else:
                t.take(i, src.table.index)
                t.fold(i, job.vecs[src.k][:, None, :])
                t.squeeze(i)
            names[i] = (src.k,) if src.k in kept else (src.s,)
        else:
            src = sources[group] if group else plain[sum(not n for n in names[:i])]
            t.fold(i, src.vector(job.vecs)[:, None, :])
            dropped.append(i)
    for i in sorted(dropped, reverse=True):
        t.squeeze(i)
        del names[i]
    return t.elements(), [n for group in names for n in group]


def digit_tables(
    w: Witness, digits: Sequence[Digit], job: ProductJob, axes: Sequence[Axis], length: int
) -> NDArray[np.int32] | U64:
    """The digits over `axes`, the kept axes longer than 1, private axes folded, the last axis padded to `length`.

    int32 (n, rows, length) if nothing is folded, else (2, n, rows, length).
    """
    if all(readable(v, job) for v, _ in digits):
        return read_block(w, digits, axes, {}, length)
    sizes = [ax.size for ax in axes]
    last = sizes.pop() if sizes else 1
    out = np.zeros((2, len(digits), *sizes, length), np.uint64)
    for i, digit in enumerate(digits):
        x = aligned(*folded_digit(w, digit, job), axes)
        out[:, i, ..., :last] = x if axes else x[:, None]
    return out.reshape(2, len(digits), -1, length)


def coefficients(forms: Sequence[Form], digits: Sequence[Digit]) -> U64:
    """(2, forms, digits): the forms in terms of the digits."""
    position = {digit: i for i, digit in enumerate(digits)}
    out = np.zeros((2, len(forms), len(digits)), np.uint64)
    for k, form in enumerate(forms):
        for v, d, c in form.terms:
            i = position[v, d]
            value = ff.f_item(out, (k, i)) + c
            out[:, k, i] = value.re, value.im
    return out


def functional_value(w: Witness, f: Functional) -> F:
    """The value of the tensor terms of a functional on the witness (strict mode and tests)."""
    total = F.ZERO
    for term in f.terms:
        for d, coef in term.coefs.items():
            t = Folded(w.digit(term.tensor, d))
            for axis in sorted(range(len(term.vecs)), key=lambda i: -term.vecs[i].shape[1]):
                t.fold(axis, term.vecs[axis][:, None, :])
            total = total + coef * ff.f_item(t.data.reshape(2))
    return total
