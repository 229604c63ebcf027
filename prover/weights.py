"""The combined weight vector W of all claims, as products instead of entries.

X consists of columns of power-of-two length. W restricted to a column is a short sum of products of a factor of the
column, a vector over its outer and one over its inner index, where the vectors are common to a group of columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from circuits.argument.batching import block_vectors
from circuits.argument.claims import Claim, Span, Term
from circuits.language.layout import Block, Layout, eq_at
from circuits.language.tensors import Tensor
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
INNER_BITS = 4  # rows of fewer bits are not worth a pass of their own


@dataclass
class Group:
    """Columns of 2^bits entries: W of entry (o, i) of column c is sum_m heads[m, c] outer[m, o] inner[m, i].

    starts int64 (columns,): where they begin. terms: by key, the m-th heads, outer and inner vector, F arrays
    (2, columns), (2, 2^(bits - inner_bits)) and (2, 2^inner_bits).
    """

    starts: I64
    bits: int
    inner_bits: int
    terms: dict[object, tuple[U64, U64, U64]] = field(default_factory=dict)

    def add(self, key: object, head: U64, outer: U64, inner: U64) -> None:
        """Another product; products of one key have the same outer and inner vector."""
        if key in self.terms:
            head = ff.f_add(self.terms[key][0], head)
        self.terms[key] = head, outer, inner

    def rows(self) -> I64:
        """Where the inner indices of each column and outer index begin, int64 (columns, outer)."""
        return self.starts[:, None] + (np.arange(1 << self.bits - self.inner_bits) << self.inner_bits)

    def factor(self, which: int) -> U64:
        """Heads, outer or inner vectors as one F array (2, m, .)."""
        return np.stack([term[which] for term in self.terms.values()], axis=1)


def inner_bits(axis_bits: Sequence[int], columns: int) -> int:
    """log2 of the inner index of so many columns: last axes of INNER_BITS bits or more, or all, or none if short.

    Of these, the choice with the smallest tables: inner vectors, and entries that are left when they are bound.
    """
    bits = sum(axis_bits)
    if bits < INNER_BITS:
        return 0
    suffixes = accumulate(reversed(axis_bits))
    return min((s for s in suffixes if s >= INNER_BITS), key=lambda s: (1 << s) + (columns << bits - s))


class _Collector:
    """All groups of a layout, and the products of claims that are added to them."""

    def __init__(self, layout: Layout, claims: Sequence[Claim], weights: Sequence[F]) -> None:
        self.layout = layout
        self.vectors: dict[object, U64] = {}
        terms: dict[Tensor, list[tuple[F, Term]]] = {}
        spans: list[tuple[F, Span]] = []
        for claim, weight in zip(claims, weights, strict=True):
            for term in claim.functional.terms:
                terms.setdefault(term.tensor, []).append((weight, term))
            spans += [(weight, span) for span in claim.functional.spans]
        self.groups: list[Group] = []
        for tensor, place in layout.places.items():
            blocks = []
            for block, positions in zip(place.blocks, place.positions, strict=True):
                inner = inner_bits([bits for _, bits in block.axes], positions.size)
                blocks.append((block, Group(positions.ravel(), block.bits, inner)))
            self.groups += [group for _, group in blocks]
            for weight, term in terms.get(tensor, ()):
                coefs = ff.f_array([weight * term.coefs.get(d, F.ZERO) for d in range(len(tensor.digits))])
                head = kernels.outer(coefs, term.vecs[0], tensor.unroll)
                for block, group in blocks:
                    vecs = block_vectors(term, block)
                    if all(vec.any() for vec in vecs):  # a box of a lookup meets few blocks
                        self._add_term(group, head, block, vecs)
        self.groups += self._multiplicities()
        for number, (weight, span) in enumerate(spans):
            self._add_span(number, weight, span)

    def _multiplicities(self) -> Iterable[Group]:
        """The run of multiplicities: columns of the length it is aligned to, and single entries."""
        start, bits = self.layout.multiplicity_start, self.layout.multiplicity_bits
        full = self.layout.table_entries >> bits
        rest = np.arange(full << bits, self.layout.table_entries)
        yield Group(start + (np.arange(full) << bits), bits, inner_bits([1] * bits, full))
        yield Group(start + rest, 0, 0)

    def _vector(self, key: object, factors: Sequence[tuple[U64, int]]) -> U64:
        """The tensor product of vectors, each padded to 2^bits entries; the latest ones are remembered by key."""
        if key not in self.vectors:
            out = ff.f_array([F.ONE])
            for vec, bits in factors:
                out = kernels.outer(out, vec, 1 << bits)
            self.vectors[key] = out
        return self.vectors[key]

    def _add_term(self, group: Group, head: U64, block: Block, vecs: Sequence[U64]) -> None:
        axis_bits = [bits for _, bits in block.axes]
        cut, left = len(axis_bits), group.inner_bits
        while left:
            cut, left = cut - 1, left - axis_bits[cut - 1]
        factors = list(zip(vecs, axis_bits, strict=True))
        keys = [(v.__array_interface__["data"], v.strides, v.shape[1], bits) for v, bits in factors]
        outer = self._vector(tuple(keys[:cut]), factors[:cut])
        inner = self._vector(tuple(keys[cut:]), factors[cut:])
        group.add(tuple(keys), head, outer, inner)

    def _add_span(self, number: int, weight: F, span: Span) -> None:
        by_bits: dict[int, list[tuple[Group, NDArray[np.bool_]]]] = {}
        for group in self.groups:
            inside = (group.starts + (1 << group.bits) > span.start) & (group.starts < span.start + span.count)
            if inside.any():
                by_bits.setdefault(group.bits, []).append((group, inside))
        for bits, found in by_bits.items():
            starts = np.concatenate([group.starts[inside] for group, inside in found])
            point, extra = list(span.point), bits - len(span.point)
            if extra > 0:  # the span is an aligned part of one column
                part = (span.start - int(starts[0])) >> len(span.point)
                point = [F(part >> i & 1) for i in reversed(range(extra))] + point
            cut = len(point) - bits
            heads = ff.f_mul_scalar(eq_at(point[:cut], np.maximum(starts - span.start, 0) >> bits), weight)
            for group, inside in found:
                head = np.zeros((2, len(inside)), np.uint64)
                head[:, inside], heads = np.split(heads, [np.count_nonzero(inside)], axis=1)
                middle = len(point) - group.inner_bits
                outer = self._eq((number, cut, middle), point[cut:middle])
                inner = self._eq((number, cut, middle, "inner"), point[middle:])
                group.add((number, "span"), head, outer, inner)

    def _eq(self, key: object, point: Sequence[F]) -> U64:
        if key not in self.vectors:
            self.vectors[key] = ff.eq_table(point)
        return self.vectors[key]


def group_weights(layout: Layout, claims: Sequence[Claim], weights: Sequence[F]) -> list[Group]:
    """sum_j weights[j] functional_j on all groups on which it is not zero."""
    return [group for group in _Collector(layout, claims, weights).groups if group.terms]
