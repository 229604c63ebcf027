"""Digits with exact ranges, and the tensors they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .forms import View
    from .sources import Source


DIGIT_BITS = 22


def ceil_log2(n: int) -> int:
    """Smallest b with 2^b >= n (n >= 1)."""
    return (n - 1).bit_length()


@dataclass(frozen=True, order=True)
class Range:
    """The exact range ``[lo, lo + size)`` of a digit; `size` is the number of entries of its lookup table."""

    size: int
    lo: int = 0

    @property
    def hi(self) -> int:
        return self.lo + self.size - 1


def unsigned(bits: int) -> Range:
    return Range(1 << bits)


def balanced(bits: int) -> Range:
    return Range(1 << bits, -(1 << (bits - 1)))


BIT = unsigned(1)
U22 = unsigned(DIGIT_BITS)
B22 = balanced(DIGIT_BITS)


@dataclass(frozen=True)
class Digit:
    """One digit of a tensor: its exact range and the power of two it is worth."""

    range: Range
    shift: int = 0


LOW = unsigned(10)
RARE_BITS = (16, 17, 19, 20, 21)


def radix(*ranges: Range) -> tuple[Digit, ...]:
    """Digits worth 2^0, 2^22, 2^44, ... with the given ranges.

    A range that only a few small tensors use is two digits, low ten bits first: its table would cost more.
    """
    out = []
    for i, r in enumerate(ranges):
        shift = DIGIT_BITS * i
        if r.size in [1 << bits for bits in RARE_BITS] and r.lo % LOW.size == 0:
            out += [Digit(LOW, shift), Digit(Range(r.size // LOW.size, r.lo // LOW.size), shift + 10)]
        else:
            out.append(Digit(r, shift))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A committed tensor. Axis 0 (`unroll`) has columns of its own per index; the others lie inside a column.

    late: it is committed after the weights are drawn that its values depend on.
    """

    name: str
    unroll: int
    shape: tuple[int, ...]
    digits: tuple[Digit, ...]
    late: bool = False
    views: dict[tuple[Source, ...], View] = field(default_factory=dict, init=False, repr=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.unroll, *self.shape)

    def bounds(self) -> tuple[int, int]:
        lo = sum(d.range.lo << d.shift for d in self.digits)
        return lo, sum(d.range.hi << d.shift for d in self.digits)
