"""Weights that are drawn once the digits they weigh are committed, and sums of entries with them.

An integer that p divides is shown to be zero by random combinations modulo the PRIMES (docs/spec/congruences.md). The
weights of an axis are independent and uniform in [0, q); bounds take each as the whole interval, so that nothing of a
circuit but its public weights depends on what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff

from .sources import Gather, Same, Source, Table, Vectors
from .tensors import DIGIT_BITS

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

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

    def __iter__(self) -> Iterator[Draw]:
        return (draw for draws in self.of.values() for draw in draws)


class Weighing(Source):
    """A source that sums entries with one part of `factor` times the drawn weights, reduced by the prime."""

    draw: Draw
    factor: int
    part: int

    def weights(self, count: int) -> I64:
        """The weights of the first `count` indices: int64, below 2^bits of the part."""
        shift, bits = PARTS[self.part]
        whole = self.draw.values[:count] * self.factor % self.draw.prime
        return whole >> shift & ((1 << bits) - 1)

    def most(self, count: int) -> int:
        """The most that so many weights can add up to."""
        return count * ((1 << PARTS[self.part][1]) - 1)


@dataclass(frozen=True)
class Weighed(Weighing):
    """sum_i w_i tensor[i] (linear terms only)."""

    draw: Draw
    factor: int
    part: int
    size: int

    def vector(self, vecs: Vectors) -> U64:
        return ff.f_from_fp(self.weights(self.size).astype(np.uint64))

    def terms(self) -> int:
        return self.most(self.size)


@dataclass(frozen=True)
class WeighedGather(Weighing):
    """sum_k w_k tensor[table[k, s]] for the domain axis s, -1 reading zero (linear terms only)."""

    draw: Draw
    factor: int
    part: int
    s: str
    table: Table
    size: int

    def vector(self, vecs: Vectors) -> U64:
        weights = ff.f_from_fp(self.weights(self.table.shape[0]).astype(np.uint64))
        return Gather("", self.s, self.table, self.size).weigh(weights, vecs[self.s])

    def extents(self) -> dict[str, int]:
        return {self.s: self.table.shape[1]}

    def terms(self) -> int:
        return self.most(self.table.shape[0])


def weighed(source: Source, axis: str, draw: Draw, factor: int, part: int) -> Source:
    """The source that reads `axis`, with the axis summed by drawn weights."""
    match source:
        case Same(axis=name, size=size) if name == axis:
            return Weighed(draw, factor, part, size)
        case Gather(k=k, s=s, table=table, size=size) if k == axis:
            return WeighedGather(draw, factor, part, s, table, size)
    raise TypeError(f"{axis} cannot be summed with drawn weights: it is read by {source}")
