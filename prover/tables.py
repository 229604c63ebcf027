"""Dense tables of forms over the kept axes of a product job, and values of functionals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.ir import DomainAxis, Form, Gather, Map, Same, Source, Sum, View
from circuits.protocol import Functional, ProductJob
from circuits.witness import Witness
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels

U64 = NDArray[np.uint64]


class Folded:
    """An array with named axes, integers until the first fold and field elements after it.

    Axis 0 is the digit axis; the others are tensor axes, replaced one by one by domain axes.
    """

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
            x = np.ascontiguousarray(self.ints).reshape(outer, shape[axis], inner)
            out = kernels.fold_matrix(x, matrix)
            self.ints = None
        else:
            y = np.ascontiguousarray(self.data).reshape(2, outer, shape[axis], inner)
            out = kernels.fold_matrix_f(y, matrix)
        self.data = out.reshape(2, *shape[:axis], rows, *shape[axis + 1 :])

    def take(self, axis: int, index: NDArray[np.int64]) -> None:
        """Replace `axis` by the axes of `index`; -1 reads zero."""
        present = (index >= 0).reshape([1] * axis + list(index.shape) + [1] * (len(self.shape) - axis - 1))
        safe = np.maximum(index, 0)
        if self.ints is not None:
            self.ints = np.take(self.ints, safe, axis=axis) * present
        else:
            self.data = np.take(self.data, safe, axis=axis + 1) * present.astype(np.uint64)

    def squeeze(self, axis: int) -> None:
        if self.ints is not None:
            self.ints = self.ints.squeeze(axis)
        else:
            self.data = self.data.squeeze(axis + 1)


def gather_matrix(src: Gather, kept: str, vecs: Mapping[str, U64]) -> U64:
    """(2, kept length, size): the private one of the two axes is folded into the index table."""
    table = src.table.index
    if kept == src.s:
        out = np.zeros((2, table.shape[1], src.size), np.uint64)
        for k, row in enumerate(table):
            s = np.flatnonzero(row >= 0)
            out[:, s, row[s]] = ff.f_add(out[:, s, row[s]], vecs[src.k][:, k : k + 1])
    else:
        out = np.zeros((2, table.shape[0], src.size), np.uint64)
        for k, row in enumerate(table):
            s = np.flatnonzero(row >= 0)
            out[:, k, row[s]] = vecs[src.s][:, s]
    return out


def view_table(w: Witness, view: View, coefs: Mapping[int, F], job: ProductJob) -> tuple[U64, list[str]]:
    """sum_d coefs[d] * digit_d with private axes folded: array (2, ...) and the names of its axes."""
    kept = {ax.name for ax in job.kept}
    digits = sorted(coefs)
    t = Folded(np.stack([w.digit(view.tensor, d) for d in digits]))
    names: list[list[str]] = [[f"#{i}"] for i in range(len(view.sources))]

    def axis_of(i: int) -> int:
        return 1 + sum(len(n) for n in names[:i])

    def apply(i: int, matrix: U64, new: list[str]) -> None:
        axis = axis_of(i)
        t.fold(axis, matrix)
        if not new:
            t.squeeze(axis)
        names[i] = new

    todo: list[tuple[int, Source]] = []
    folds = []
    for i, src in enumerate(view.sources):
        if not set(src.axes) & kept:
            folds.append((src.size, i, src))
        else:
            todo.append((i, src))
    for size, i, src in sorted(folds, key=lambda f: -f[0]):
        if size == 1 and isinstance(src, Sum) and src.weights is None:
            t.squeeze(axis_of(i))
            names[i] = []
        else:
            apply(i, src.vector(job.vecs)[:, None, :], [])
    late = []
    for i, src in todo:
        if isinstance(src, Gather) and not set(src.axes) <= kept:
            name = src.s if src.s in kept else src.k
            apply(i, gather_matrix(src, name, job.vecs), [name])
        else:
            late.append((i, src))
    # Combine the digits before the index maps below enlarge the array.
    t.fold(0, ff.f_array([coefs[d] for d in digits]).reshape(2, 1, -1))
    for i, src in late:
        if isinstance(src, Same):
            names[i] = [src.axis]
        elif isinstance(src, Map):
            t.take(axis_of(i), np.array(src.table))
            names[i] = [src.axis]
        elif isinstance(src, Gather):
            t.take(axis_of(i), src.table.index)
            names[i] = [src.k, src.s]
        else:
            raise TypeError(f"{view.tensor.name}: {src} cannot be an operand")
    t.squeeze(0)
    return t.data, [n for group in names for n in group]


def form_table(w: Witness, form: Form, job: ProductJob) -> U64:
    """Table (2, 2^bits) of a form over the kept axes of the job, zero outside their sizes."""
    axes = job.kept
    groups: dict[View, dict[int, F]] = {}
    for v, d, c in form.terms:
        coefs = groups.setdefault(v, {})
        coefs[d] = coefs.get(d, F.ZERO) + c
    total = np.zeros((2, *(ax.size for ax in axes)), np.uint64)
    for v, coefs in groups.items():
        data, names = view_table(w, v, coefs, job)
        order = [names.index(ax.name) for ax in axes if ax.name in names]
        data = data.transpose(0, *(1 + o for o in order))
        data = data.reshape(2, *(ax.size if ax.name in names else 1 for ax in axes))
        total = ff.f_add(total, data)
    return pad_axes(total, axes)


def pad_axes(x: U64, axes: Sequence[DomainAxis]) -> U64:
    if all(ax.size == 1 << ax.bits for ax in axes):
        return np.ascontiguousarray(x).reshape(2, -1)
    out = np.zeros((2, *(1 << ax.bits for ax in axes)), np.uint64)
    out[(slice(None), *(slice(ax.size) for ax in axes))] = x
    return out.reshape(2, -1)


def functional_value(w: Witness, f: Functional) -> F:
    """The value of the tensor terms of a functional on the witness (strict mode and tests)."""
    total = F.ZERO
    for term in f.terms:
        digits = sorted(term.coefs)
        t = Folded(np.stack([w.digit(term.tensor, d) for d in digits]))
        for axis in sorted(range(len(term.vecs)), key=lambda i: -term.vecs[i].shape[1]):
            t.fold(axis + 1, term.vecs[axis][:, None, :])
        t.fold(0, ff.f_array([term.coefs[d] for d in digits]).reshape(2, 1, -1))
        total = total + ff.f_item(t.data.reshape(2))
    return total
