"""Weights that are drawn once the digits they weigh are committed, and sums of entries with them.

An integer that p divides is shown to be zero by random combinations modulo the PRIMES (docs/spec/congruences.md). The
weights of an axis are independent and uniform in [0, q); bounds take each as the whole interval, so that nothing of a
circuit but its public weights depends on what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from zkcert.core import field as ff
from zkcert.core.field import I64, U64, F

from .sources import Axis, Gather, Source, Table, Vectors
from .tensors import DIGIT_BITS

WEIGHT_BITS = 30
PRIMES = tuple((1 << WEIGHT_BITS) - less for less in (35, 41, 83, 101, 105))
"""The largest five below 2^30: the product of any two is above 2^59."""
PARTS = ((0, DIGIT_BITS), (DIGIT_BITS, WEIGHT_BITS - DIGIT_BITS))
"""Shift and number of bits of the two parts of a weight."""


@dataclass(eq=False)
class Draw:
    """The weights of the first `size` indices of all axes of one name, modulo one prime: int64 (size,), once drawn."""

    axis: str
    prime: int
    size: int = 0
    drawn: I64 | None = None

    @property
    def values(self) -> I64:
        if self.drawn is None:
            raise ValueError(f"the weights of {self.axis} modulo {self.prime} are not drawn yet")
        return self.drawn


@dataclass
class Draws:
    """All draws of a circuit, in the order in which their axes are first asked for."""

    of: dict[str, tuple[Draw, ...]] = field(default_factory=dict)

    def axis(self, name: str, size: int) -> tuple[Draw, ...]:
        """The draws of an axis, one for each prime, for at least so many indices."""
        draws = self.of.setdefault(name, tuple(Draw(name, prime) for prime in PRIMES))
        for draw in draws:
            draw.size = max(draw.size, size)
        return draws

    @property
    def sizes(self) -> dict[str, int]:
        """Entries by axis."""
        return {name: draws[0].size for name, draws in self.of.items()}

    def restore(self, sizes: Mapping[str, int]) -> None:
        """Those of an earlier moment again."""
        self.of = {name: self.of[name] for name in sizes}
        for draw in self:
            draw.size = sizes[draw.axis]

    def __iter__(self) -> Iterator[Draw]:
        return (draw for draws in self.of.values() for draw in draws)


def parts_of(drawn: I64, factor: int, prime: int) -> I64:
    """The parts (2, n) of `factor` times drawn weights (n,), each below 2^bits of the part."""
    whole = drawn * (factor % prime) % prime
    return np.stack([whole >> shift & ((1 << bits) - 1) for shift, bits in PARTS])


@dataclass(frozen=True)
class Weighing(Source):
    """A source that sums entries with one part of `factor` times the drawn weights, reduced by the prime."""

    draw: Draw
    factor: int
    part: int

    def weights(self, count: int) -> I64:
        """The weights of the first `count` indices: int64, below 2^bits of the part."""
        return np.asarray(parts_of(self.draw.values[:count], self.factor, self.draw.prime)[self.part], np.int64)

    def most(self, count: int) -> int:
        """The most that so many weights can add up to."""
        return count * ((1 << PARTS[self.part][1]) - 1)


@dataclass(frozen=True)
class Weighed(Weighing):
    """sum_i w_i tensor[i] (linear terms only)."""

    size: int

    def vector(self, vecs: Vectors) -> U64:
        return ff.f_from_fp(self.weights(self.size).astype(np.uint64))

    def terms(self) -> int:
        return self.most(self.size)


@dataclass(frozen=True)
class WeighedGather(Weighing):
    """sum over one axis of an index table of w times tensor[table[k, s]], -1 reading zero (linear terms only).

    axis: the domain axis that it reads; rows: whether the axis k is summed, so that the domain axis is s.
    """

    axis: str
    table: Table
    size: int
    rows: bool

    @property
    def count(self) -> int:
        """How many entries are summed."""
        return self.table.shape[0 if self.rows else 1]

    def vector(self, vecs: Vectors) -> U64:
        summed, read = ff.f_from_fp(self.weights(self.count).astype(np.uint64)), vecs[self.axis]
        return Gather("", "", self.table, self.size).weigh(*((summed, read) if self.rows else (read, summed)))

    def extents(self) -> dict[str, int]:
        return {self.axis: self.table.shape[1 if self.rows else 0]}

    def terms(self) -> int:
        return self.most(self.count)


@dataclass(frozen=True)
class WeighedAlike(Weighing):
    """What `inner` reads, times the sum of the weights of `count` indices of an axis along which it is the same."""

    size: int
    inner: Source
    count: int

    @property
    def weight(self) -> int:
        """The part of `factor` times the sum of the drawn weights."""
        total = self.draw.values[: self.count].sum(keepdims=True) % self.draw.prime
        return int(parts_of(total, self.factor, self.draw.prime)[self.part, 0])

    def vector(self, vecs: Vectors) -> U64:
        return ff.f_mul_scalar(self.inner.vector(vecs), F(self.weight))

    def extents(self) -> dict[str, int]:
        return self.inner.extents()

    def terms(self) -> int:
        return self.inner.terms() * self.most(1)


def weighed(
    sources: tuple[Source, ...], axis: str, size: int, draw: Draw, factor: int, part: int
) -> tuple[Source, ...]:
    """The sources of a view with `axis`, of `size` indices, summed by drawn weights: the one that reads it is replaced,
    or the first one if none does."""

    def replaced(source: Source) -> Source:
        match source:
            case Axis():
                return Weighed(draw, factor, part, source.size)
            case Gather(k=k, s=s, table=table, size=entries):
                return WeighedGather(draw, factor, part, s if k == axis else k, table, entries, k == axis)
        raise TypeError(f"{axis} cannot be summed with drawn weights: it is read by {source}")

    if not any(axis in source.axes for source in sources):
        return WeighedAlike(draw, factor, part, sources[0].size, sources[0], size), *sources[1:]
    return tuple(replaced(source) if axis in source.axes else source for source in sources)
