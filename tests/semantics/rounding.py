"""Rounding, limits and nested lists of integers: what the reference semantics is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Nested = Any  # an integer, or a list of Nested


class Refusal(Exception):
    """The probe has no result: a value leaves its range, or the gradient or loss is too small."""


# ------------------------------------------------------------------------------------------------ rounding


def rescale(a: int, bits: int = 32) -> int:
    """a / 2^bits to the nearest integer, halves up."""
    return (a + (1 << bits >> 1)) >> bits


def nearest(a: int, divisor: int) -> int:
    """a / divisor to the nearest integer, halves up."""
    return (a + divisor // 2) // divisor


def within(x: int, bits: int, what: str) -> int:
    """x, which must be two balanced digits: low of 22 bits, high of `bits` - 22."""
    low = (x + (1 << 21)) % (1 << 22) - (1 << 21)
    high = (x - low) >> 22
    if not -(1 << (bits - 23)) <= high < 1 << (bits - 23):
        raise Refusal(f"{what} is out of range")
    return x


def value(x: int, what: str) -> int:
    """Activations, deltas, gradients, E, V: about |x| < 2^43, that is 2048."""
    return within(x, 44, what)


def weight(x: int, what: str) -> int:
    """Weights: about |x| < 2^39, that is 128."""
    return within(x, 40, what)


def each(f: Callable[..., int], *xs: Nested) -> Nested:
    """f applied entry by entry."""
    if isinstance(xs[0], list):
        return [each(f, *parts) for parts in zip(*xs, strict=True)]
    return f(*xs)


def add_up(xs: list[Nested]) -> Nested:
    """The sum of equally nested integers."""
    return each(lambda *parts: sum(parts), *xs)


def entries(x: Nested) -> Iterator[int]:
    if isinstance(x, list):
        for part in x:
            yield from entries(part)
    else:
        yield x
