"""The prover's side of the lookups: fraction trees over digits, tuples and tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from circuits.argument import claims
from circuits.argument.tuples import Box, base, encoded, leaf_count, pieces, tuple_trees
from circuits.language.functions import Lookup
from circuits.language.layout import Block, Layout, prefix_eq
from circuits.language.tensors import ceil_log2
from prover.execution.witness import Witness
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels
from .kernels.arith import in_threads

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
INNER_BITS = 12  # log2 of the part of an eq table that stays in the cache
INTEGER_ROUNDS = 3  # last round of the leaves' sum-check computed from the digits themselves
PIECE = 1 << 16  # entries of the tables at once
TUPLE_BITS = 18  # log2 of the tuples of one part
SMALL_DEPTH = 12  # at least 3: trees of digits up to this depth have their leaves written out


class FactoredEq:
    """eq(point[k:], .) for every k, as pairs of tables (outer, inner) whose product it is."""

    def __init__(self, point: Sequence[F]) -> None:
        cut = max(0, len(point) - INNER_BITS)
        self.inner, self.outer = suffix_tables(point[cut:]), suffix_tables(point[:cut])

    def last(self, count: int) -> tuple[U64, U64]:
        """The pair for the last `count` coordinates."""
        bits = min(count, len(self.inner) - 1)
        return self.outer[count - bits], self.inner[bits]


def suffix_tables(point: Sequence[F]) -> list[U64]:
    """eq_table(point[n - k:]) for k = 0, ..., n."""
    tables = [ff.f_array([F.ONE])]
    for r in reversed(point):
        high = ff.f_mul_scalar(tables[-1], r)
        tables.append(np.concatenate([ff.f_sub(tables[-1], high), high], axis=1))
    return tables


def room(spare: U64, n: int) -> U64:
    """`spare`, a level that has been dropped, if n fractions fit, else a new one: memory touched anew is expensive."""
    return spare if spare.shape[1] >= n else kernels.new_level(n)


class Rounds(claims.Sumcheck, ABC):
    """The part of a sum-check that does not depend on its summand.

    A round polynomial without its eq factor is t(X) = t(0) + (slope - tinf) X + tinf X^2 with slope = t(1) - t(0);
    `claim` = (1 - r) t(0) + r t(1) for the variable's coordinate r of `point`.
    """

    def __init__(self, point: Sequence[F], claim: F) -> None:
        self.point, self.claim, self.eq = point, claim, FactoredEq(point[1:])
        self.number, self.r = 0, F.ZERO

    @property
    def half(self) -> int:
        """How many pairs of entries are left."""
        return 1 << (len(self.point) - self.number - 1)

    def weights(self) -> tuple[U64, U64]:
        return self.eq.last(len(self.point) - self.number - 1)

    def message(self, t0: F, tinf: F) -> tuple[F, F]:
        self.sent = (self.claim - t0) / self.point[self.number], tinf
        self.t0 = t0
        return self.sent

    def bind(self, r: F) -> None:
        slope, tinf = self.sent
        self.claim = self.t0 + r * (slope + (r - 1) * tinf)
        self.advance(r)

    def advance(self, r: F) -> None:
        """Bind the variable, but for the claim."""
        self.r = r
        self.number += 1

    @abstractmethod
    def sums(self) -> tuple[F, F]:
        """t(0) and tinf."""

    def round(self, eq_point: Sequence[F] | None = None) -> tuple[F, F]:
        return self.message(*self.sums())


class Layer(Rounds):
    """The sum-check for p + lam q at a point of one level, over the level (4, stride) below, which it overwrites."""

    def __init__(self, level: U64, point: Sequence[F], lam: F, claim: F) -> None:
        super().__init__(point, claim)
        self.level, self.lam, self.gap = level, lam, 1 << len(point)

    def sums(self) -> tuple[F, F]:
        args = self.half, self.number, self.lam, self.r, self.weights()
        return kernels.fraction_round(self.level, self.gap, *args)

    def _end(self, start: int) -> tuple[F, F]:
        """The two tables of a child, bound to the last challenge; the numerators of child 1 become p + lam q."""
        entries = [(ff.f_item(self.level[:2], i), ff.f_item(self.level[2:], i)) for i in (start, start + 1)]
        if start and self.number < 2:  # the kernel does it in its second round
            entries = [(p + self.lam * q, q) for p, q in entries]
        (p, q), (u, v) = entries
        return p + self.r * (u - p), q + self.r * (v - q)

    def finals(self) -> list[tuple[F, F]]:
        """p0 and q1, p1 + lam q1 and q0."""
        if self.number == 0:  # a single pair: entry 1 is child 1 and not read as child 0's
            self.level = np.repeat(self.level[:, :2], 2, axis=1)
            self.gap = 2
        (p0, q0), (u, q1) = self._end(0), self._end(self.gap)
        self.children = (p0, q0), (u - self.lam * q1, q1)
        return [(p0, q1), (u, q0)]


class Tree(claims.Tree):
    """A tree over a level (4, >= 2^depth) of fractions, rows Re p, Im p, Re q, Im q.

    `layer` goes down one level at a time and drops it.
    """

    def __init__(self, bottom: U64, depth: int) -> None:
        self.levels = [bottom]
        for d in range(depth, 0, -1):
            self.levels.append(kernels.parents(self.levels[-1], 1 << d))
        top = self.levels.pop()
        self.fraction = ff.f_item(top[:2], 0), ff.f_item(top[2:], 0)
        self.last: Layer | None = None

    def root(self) -> tuple[F, F]:
        return self.fraction

    def claim(self, point: Sequence[F], lam: F) -> F:
        """p + lam q at the point: the line through the children of the last layer, or the root."""
        p, q = self.fraction
        if self.last is not None:
            (p, q), (u, v) = self.last.children
            p, q = p + point[0] * (u - p), q + point[0] * (v - q)
        return p + lam * q

    def layer(self, point: Sequence[F], lam: F) -> Layer:
        self.last = Layer(self.levels.pop(), point, lam, self.claim(point, lam))
        return self.last


class Leaves:
    """Leaves n / (base - x) for integers x int32 (2^depth,): n = 1 for the first `count`, then base = 1 and n = 0.

    `starts` sorted int64 (segments,) begins with 0; bases (2, segments). size: 2^depth, the least for `count` if None.
    """

    def __init__(self, x: NDArray[np.int32], count: int, starts: I64, bases: U64, size: int | None = None) -> None:
        size = size or 1 << ceil_log2(count)
        self.count, self.x = count, x[:count]
        if size > count:
            self.x = np.zeros(size, np.int32)
            self.x[:count] = x[:count]
        self.starts = np.append(starts, count)
        self.bases = np.concatenate([bases, ff.f_array([F.ONE])], axis=1)

    def pieces(self, streams: int) -> tuple[I64, U64, U64]:
        """Cuts of [0, size / streams) such that a piece of every stream, shifted by size/streams, has one base.

        Returns cuts (pieces + 1,), bases (2, streams, pieces) and n as F elements (2, streams, pieces).
        """
        length = len(self.x) // streams
        cuts = np.unique(np.append(self.starts % length, [0, length]))
        where = length * np.arange(streams)[:, None] + cuts[:-1]
        segment = np.searchsorted(self.starts, where, side="right") - 1
        return cuts, self.bases[:, segment], ff.f_from_fp((where < self.count).astype(np.uint64))

    def nodes(self, streams: int) -> tuple[I64, U64]:
        """Cuts and constants (streams, pieces, 9) of the first level above the leaves."""
        cuts, bases, n = self.pieces(2 * streams)
        return cuts, kernels.node_constants(bases[:, :streams], bases[:, streams:], n[0, streams:])

    def level(self) -> U64:
        """The leaves as fractions (4, 2^depth)."""
        where = np.arange(len(self.x))
        bases = self.bases[:, np.searchsorted(self.starts, where, side="right") - 1]
        p = ff.f_from_fp((where < self.count).astype(np.uint64))
        return np.concatenate([p, ff.f_sub(bases, ff.f_from_fp(ff.fp_from_int(self.x.astype(np.int64))))])


class LeafLayer(Rounds):
    """The sum-check of the products b0 b1, b = p + lam q of leaves 0 and 1 of every pair."""

    def __init__(self, leaves: Leaves, point: Sequence[F], lam: F, claim: F, spare: U64) -> None:
        half = len(leaves.x) // 2
        super().__init__(point, lam * claim + prefix_eq(list(point), leaves.count - half))
        self.leaves, self.lam, self.spare = leaves, lam, spare
        self.bound: list[F] = []
        self.table: U64 | None = None

    def _constants(self, odd: int) -> tuple[I64, U64, U64]:
        """Cuts, constants (2, 2, odd, pieces) and weights of the b as functions of the integers."""
        parts = 1 << len(self.bound)
        cuts, bases, n = self.leaves.pieces(2 * parts * odd)
        values = ff.f_add(ff.f_mul_scalar(bases, self.lam), n)
        weights = ff.eq_table(self.bound)
        values = ff.f_mul(values.reshape(2, 2, parts, odd, -1), weights[:, None, :, None, None])
        return cuts, ff.f_sum(values, axis=2), ff.f_mul_scalar(weights, self.lam)

    def sums(self) -> tuple[F, F]:
        if self.table is not None:
            return kernels.pair_round(self.table, self.half, self.r, self.weights())
        if self.number == min(INTEGER_ROUNDS, len(self.point) - 1):
            self.table = room(self.spare, 2 * self.half)
        return kernels.leaf_round(self.leaves.x, *self._constants(2), self.weights(), self.table)

    def advance(self, r: F) -> None:
        super().advance(r)
        self.bound.append(r)

    def finals(self) -> list[tuple[F, F]]:
        """b0 and b1."""
        if self.table is None:
            _, consts, _ = self._constants(1)
            b0, b1 = (ff.f_item(consts, (c, 0, 0)) - self.lam * int(self.leaves.x[c]) for c in range(2))
            return [(b0, b1)]
        ends = [[ff.f_item(self.table[2 * c : 2 * c + 2], i) for i in range(2)] for c in range(2)]
        b0, b1 = (a + self.r * (b - a) for a, b in ends)
        return [(b0, b1)]


class NodeLayer(Layer):
    """The layer whose level is the first above the leaves: computed anew in its first two rounds, stored halved."""

    def __init__(self, leaves: Leaves, point: Sequence[F], lam: F, claim: F, spare: U64) -> None:
        super().__init__(spare, point, lam, claim)
        self.leaves = leaves

    def sums(self) -> tuple[F, F]:
        if self.number > 1:
            return super().sums()
        level, self.gap = None, 2 * self.half
        if self.number == 1:
            level = self.level = room(self.level, 4 * self.half)
        cuts, consts = self.leaves.nodes(4 << self.number)
        args = cuts, consts, self.lam, self.r, self.weights(), level
        return kernels.node_round(self.leaves.x, *args)


class DigitTree(Tree):
    """The tree over digits. The numerators of the leaves are ones. Of a large one, only levels from the third on are
    kept: the second is computed anew when these are gone, which costs less than its memory would, and the first where
    it is used."""

    def __init__(self, leaves: Leaves) -> None:
        self.below, depth = leaves, len(leaves.x).bit_length() - 1
        self.above = depth - 3 if depth > SMALL_DEPTH else -1  # variables of the layer over the second level
        if depth > SMALL_DEPTH:
            super().__init__(kernels.upper_level(leaves.x, *leaves.nodes(4)), depth - 3)
        else:
            level = leaves.level()
            super().__init__(kernels.parents(level, 1 << depth) if depth else level, max(depth - 1, 0))

    def layer(self, point: Sequence[F], lam: F) -> Layer:
        if len(point) == self.above:
            assert self.last is not None
            self.last.level = kernels.new_level(0)
            self.levels.append(kernels.upper_level(self.below.x, *self.below.nodes(2)))
        if self.levels:
            return super().layer(point, lam)
        self.last = NodeLayer(self.below, point, lam, self.claim(point, lam), self.spare())
        return self.last

    def leaves(self, point: Sequence[F], lam: F) -> LeafLayer:
        return LeafLayer(self.below, point, lam, self.claim(point, lam), self.spare())

    def spare(self) -> U64:
        return kernels.new_level(0) if self.last is None else self.last.level


def leaf_bases(layout: Layout, alpha: F, start: int, count: int) -> tuple[I64, U64]:
    """Where a base begins among the digits [start, start + count) of X, int64 (segments,); the bases (2, segments)."""
    segments = [s for s in layout.segments if s.start < start + count and s.stop > start]
    starts = np.array([max(s.start - start, 0) for s in segments], np.int64)
    return starts, ff.f_array([alpha - F(s.shift, s.cls) for s in segments])


def digit_tree(layout: Layout, x: NDArray[np.int32], alpha: F, start: int, count: int) -> DigitTree:
    """The tree over the digits x[start:start + count]."""
    return DigitTree(Leaves(x[start : start + count], count, *leaf_bases(layout, alpha, start, count)))


class PairLayer(Rounds):
    """The sum-check of the products b0 b1 of a table (4, stride) of pairs, which it overwrites."""

    def __init__(self, pairs: U64, point: Sequence[F], claim: F) -> None:
        super().__init__(point, claim)
        self.pairs = pairs

    def sums(self) -> tuple[F, F]:
        if self.number:
            return kernels.pair_round(self.pairs, self.half, self.r, self.weights())
        return kernels.pair_start(self.pairs, self.half, self.weights())

    def finals(self) -> list[tuple[F, F]]:
        """b0 and b1."""
        ends = [[ff.f_item(self.pairs[2 * c : 2 * c + 2], i) for i in range(2 if self.number else 1)] for c in range(2)]
        b0, b1 = (a[0] + self.r * (a[-1] - a[0]) for a in ends)
        return [(b0, b1)]


class TupleTree(Tree):
    """The tree over tuples, leaves 1/q of which the first `count` are there and the others are 0/1.

    pairs: as of `kernels.tuples`, of 2^(depth - 1) pairs, or one leaf alone.
    """

    def __init__(self, pairs: U64, count: int) -> None:
        self.count, self.pairs, half = count, pairs, 1 << max(ceil_log2(count) - 1, 0)
        if count == 1:
            super().__init__(np.concatenate([ff.f_array([F.ONE]), pairs[:2, :1]]), 0)
            return
        first = kernels.new_level(half)
        kernels.tuple_parents(pairs, half, count - half, first)
        super().__init__(first, ceil_log2(half))

    def leaves(self, point: Sequence[F], lam: F) -> PairLayer:
        half = 1 << len(point)
        claim = lam * self.claim(point, lam) + prefix_eq(list(point), self.count - half)
        kernels.scale_leaves(self.pairs, half, self.count - half, lam)
        return PairLayer(self.pairs, point, claim)


class Part(NamedTuple):
    """Some tuples of a lookup at once: a piece of a box, the leaves of a tree from `start` on."""

    lookup: Lookup
    block: Block
    start: int

    def tuples(self, witness: Witness) -> I64:
        """int64 (components, indices of the block): the first row of the table where the domain has ended."""
        lookup, windows = self.lookup, self.block.window(self.lookup.sizes)
        out = np.empty((len(lookup.components), *(1 << bits for _, bits in self.block.axes)), np.int64)
        inside = tuple(slice(max(w.stop - w.start, 0)) for w in windows)
        whole = all(s.stop == size for s, size in zip(inside, out.shape[1:], strict=True))
        for number, form in enumerate(lookup.components):
            if not whole:
                out[number] = lookup.table.rows[0, number]
            if all(s.stop for s in inside):
                window = {ax.name: w for ax, w in zip(lookup.out, windows, strict=True)}
                out[number, ...][inside] = witness.form(form, lookup.out, window)
        return out.reshape(len(out), -1)


def parts_of(tree: Sequence[Box], bits: int) -> list[Part]:
    """The leaves of a tree, at most 2^bits at once."""
    out = []
    for box in tree:
        start = box.start
        for block in pieces(box.block, bits):
            out.append(Part(box.lookup, block, start))
            start += 1 << block.bits
    return out


def tuple_tree(layout: Layout, witness: Witness, alpha: F, gamma: F, tree: Sequence[Box]) -> TupleTree:
    """The tree over the tuples of some boxes."""
    count = leaf_count(tree)
    half_bits = max(ceil_log2(count) - 1, 0)
    half = 1 << half_bits
    pairs = kernels.new_level(half)

    def fill(part: Part) -> None:
        start = base(layout, part.lookup.table, alpha)
        row, at = divmod(part.start, half)
        kernels.tuple_leaves(part.tuples(witness), gamma, start, pairs, 2 * row, at)

    in_threads(fill, [(part,) for part in parts_of(tree, min(TUPLE_BITS, half_bits))])
    pairs[2, count - half : half], pairs[3, count - half : half] = 1, 0
    return TupleTree(pairs, count)


def count_rows(layout: Layout, witness: Witness) -> I64:
    """How often each row of the function tables is used, int64, one table after the other; other tuples not at all."""

    def count(part: Part) -> I64:
        rows, x = part.lookup.table.rows, part.tuples(witness)
        found = np.minimum(np.searchsorted(rows[:, 0], x[0]), len(rows) - 1)
        return np.bincount(found[(x == rows[found].T).all(axis=0)], minlength=len(rows))

    counts = {table: np.zeros(table.shape[0], np.int64) for table in layout.functions}
    parts = [part for tree in tuple_trees(layout) for part in parts_of(tree, TUPLE_BITS)]
    for part, own in zip(parts, in_threads(count, [(part,) for part in parts]), strict=True):
        counts[part.lookup.table] += own
    return np.concatenate([np.zeros(0, np.int64), *counts.values()])


class TableTree(Tree):
    """The tree over the tables, with the multiplicities in X as negative numerators. Its leaves are computed anew when
    the other levels are gone."""

    def __init__(self, layout: Layout, x: NDArray[np.int32], alpha: F, gamma: F) -> None:
        self.tables, self.alpha, self.counts = layout.tables, alpha, x[layout.multiplicity_start :]
        functions = [
            ff.f_sub(ff.f_array([base(layout, table, alpha)]), encoded(table.rows, gamma)) for table in layout.functions
        ]
        self.functions = np.concatenate([np.zeros((2, 0), np.uint64), *functions], axis=1)
        self.size = 1 << ceil_log2(layout.table_entries)
        half = self.size // 2
        first = kernels.new_level(half)
        for start in range(0, half, PIECE):
            stop = min(start + PIECE, half)
            pairs = np.concatenate([self.leaves(start, stop), self.leaves(half + start, half + stop)], axis=1)
            first[:, start:stop] = kernels.parents(pairs, 2 * (stop - start))[:, : stop - start]
        super().__init__(first, ceil_log2(half))

    def leaves(self, start: int, stop: int) -> U64:
        """The leaves [start, stop) as fractions (4, stop - start)."""
        out = np.zeros((4, stop - start), np.uint64)
        out[2] = 1
        first = 0
        for cls, size in enumerate(self.tables):
            low, high = max(start, first), min(stop, first + size)
            if low < high:
                own, part = self.alpha - F(0, cls), out[:, low - start : high - start]
                part[0] = ff.fp_from_int(-self.counts[low:high].astype(np.int64))
                part[2] = ff.fp_sub(np.uint64(own.re), np.arange(low - first, high - first, dtype=np.uint64))
                part[3] = own.im
            first += size
        low, high = max(start, first), min(stop, first + self.functions.shape[1])
        if low < high:
            part = out[:, low - start : high - start]
            part[0] = ff.fp_from_int(-self.counts[low:high].astype(np.int64))
            part[2:] = self.functions[:, low - first : high - first]
        return out

    def layer(self, point: Sequence[F], lam: F) -> Layer:
        if not self.levels:
            if self.last is not None:
                self.last.level = kernels.new_level(0)
            self.levels.append(kernels.new_level(self.size))
            for start in range(0, self.size, PIECE):
                stop = min(start + PIECE, self.size)
                self.levels[0][:, start:stop] = self.leaves(start, stop)
        return super().layer(point, lam)
