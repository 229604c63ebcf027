"""Functions of one number as public tables of segments: docs/spec/functions.md.

Everything here is made of integers: real numbers are taken with `BITS` fractional bits, of which the roundings of a
table use at most 32, so that an error in the last ones shows nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

BITS = 128
ONE = 1 << BITS
SEGMENT_BITS = 10  # segments are 2^-10 wide
HALF_BITS = SEGMENT_BITS + 1  # their ends and middles are multiples of 2^-11
FRACTION_BITS = 32


def times(a: int, b: int) -> int:
    """The product of two numbers."""
    return a * b >> BITS


@cache
def _powers() -> list[int]:
    """exp(-k / 2^11) for k = 0, 1, ..., as many as were asked for."""
    return [ONE]


def exp_of_minus(v: int) -> int:
    """exp(-v) for v >= 0."""
    k, r = divmod(v, 1 << BITS - HALF_BITS)
    powers = _powers()
    while len(powers) <= k:
        powers.append(times(powers[-1], _series_of_minus(1 << BITS - HALF_BITS)))
    return times(powers[k], _series_of_minus(r)) if r else powers[k]


@lru_cache(maxsize=4)
def _series_of_minus(r: int) -> int:
    """exp(-r) for a small r >= 0."""
    total, term, n = 0, ONE, 1
    while term:
        total, term, n = total + (term if n % 2 else -term), times(term, r) // n, n + 1
    return total


def ln_of_one_plus(e: int) -> int:
    """ln(1 + e) for 0 <= e <= 1."""
    ratio = (e << BITS) // (2 * ONE + e)
    square, power, total, n = times(ratio, ratio), ratio, 0, 1
    while power:
        total, power, n = total + power // n, times(power, square), n + 2
    return 2 * total


@cache
def pi() -> int:
    """16 atan(1/5) - 4 atan(1/239)."""

    def atan_of_inverse(x: int) -> int:
        total, power, n = 0, ONE // x, 1
        while power:
            total, power, n = total + (power // n if n % 4 == 1 else -(power // n)), power // (x * x), n + 2
        return total

    return 16 * atan_of_inverse(5) - 4 * atan_of_inverse(239)


def root(x: int) -> int:
    """The square root of a number."""
    return isqrt(x << BITS)


def logistic(x: int) -> int:
    """1 / (1 + exp(-x))."""
    upper = (ONE << BITS) // (ONE + exp_of_minus(abs(x)))
    return upper if x >= 0 else ONE - upper


def logistic_slope(x: int) -> int:
    s = logistic(x)
    return times(s, ONE - s)


def density(x: int) -> int:
    """Of the standard normal distribution."""
    return (exp_of_minus(times(x, x) >> 1) << BITS) // root(2 * pi())


def normal(x: int) -> int:
    """What share of it lies below x."""
    beyond = _beyond(abs(x))
    return (ONE >> 1) + (beyond if x >= 0 else -beyond)


@lru_cache(maxsize=1 << 16)
def _beyond(x: int) -> int:
    """What share lies between 0 and x >= 0: the density times the sum of x^n / (1 3 5 ... n) over odd n."""
    square, total, term, n = times(x, x), 0, x, 1
    while term:
        total, n = total + term, n + 2
        term = times(term, square) // n
    return times(density(x), total)


def _bent(x: int) -> tuple[int, int]:
    """v = 2 sqrt(2/pi) (x + 0.044715 x^3), of which a GELU's other form takes x / (1 + exp(-v)), and its slope."""
    scale, cubic = root((8 * ONE << BITS) // pi()), 44715 * times(x, x) // 10**6
    return times(times(scale, x), ONE + cubic), times(scale, ONE + 3 * cubic)


def _gelu_tanh_slope(x: int) -> int:
    v, slope = _bent(x)
    return logistic(v) + times(x, times(logistic_slope(v), slope))


@dataclass(frozen=True)
class Function:
    """A function as it is computed: `below` up to the integer `low`; from `high` on the number `above`, or its argument
    where that is None; between them by segments. value(x), slope(x): what f and f' really are."""

    value: Callable[[int], int]
    slope: Callable[[int], int]
    low: int
    high: int
    below: int
    above: int | None

    @property
    def first(self) -> int:
        """The segment that stands for everything below `low`."""
        return (self.low << SEGMENT_BITS) - 1

    @property
    def last(self) -> int:
        """The segment that stands for everything from `high` on."""
        return self.high << SEGMENT_BITS

    def rows(self) -> NDArray[np.int64]:
        """By segment g, first to last, (g, c, d, s): f in the middle and f' in Q32, its slope in units of 2^-21. Of f'
        that is the line through its ends, moved half way to its middle."""
        unit = BITS - HALF_BITS
        inside = range(self.first + 1, self.last)
        ends = [self.slope(g << unit + 1) for g in range(inside.start, inside.stop + 1)]
        out = [(self.first, self.below << FRACTION_BITS, 0, 0)]
        for g, left, right in zip(inside, ends, ends[1:], strict=False):
            middle = 2 * g + 1 << unit
            mean = left + 2 * self.slope(middle) + right << FRACTION_BITS - 2
            bend = right - left << FRACTION_BITS - 1
            out.append((g, _nearest(self.value(middle) << FRACTION_BITS), _nearest(mean), _nearest(bend)))
        if self.above is None:
            out.append((self.last, 2 * self.last + 1 << FRACTION_BITS - HALF_BITS, 1 << FRACTION_BITS, 0))
        else:
            out.append((self.last, self.above << FRACTION_BITS, 0, 0))
        return np.array(out, np.int64)


def _nearest(x: int) -> int:
    """To the nearest integer, halves up."""
    return (x + (ONE >> 1)) >> BITS


FUNCTIONS = {
    "sigmoid": Function(logistic, logistic_slope, -23, 23, 0, 1),
    "tanh": Function(lambda x: 2 * logistic(2 * x) - ONE, lambda x: 4 * logistic_slope(2 * x), -12, 12, -1, 1),
    "silu": Function(
        lambda x: times(x, logistic(x)), lambda x: logistic(x) + times(x, logistic_slope(x)), -27, 27, 0, None
    ),
    "gelu": Function(lambda x: times(x, normal(x)), lambda x: normal(x) + times(x, density(x)), -7, 7, 0, None),
    "gelu_tanh": Function(lambda x: times(x, logistic(_bent(x)[0])), _gelu_tanh_slope, -7, 7, 0, None),
    "elu": Function(lambda x: exp_of_minus(-x) - ONE, lambda x: exp_of_minus(-x), -23, 0, -1, None),
    "softplus": Function(lambda x: max(x, 0) + ln_of_one_plus(exp_of_minus(abs(x))), logistic, -23, 23, 0, None),
}
"""By the name that nodes of model files have for them."""


DECAY = Function(exp_of_minus, lambda x: -exp_of_minus(x), 0, 23, 1, 0)
"""exp(-x) of x >= 0, which attention takes; segments from 0 on."""


@cache
def rows_of_decay() -> NDArray[np.int64]:
    """`Function.rows` of `DECAY`, without the first."""
    return DECAY.rows()[1:]


@cache
def rows_of(name: str) -> NDArray[np.int64]:
    """`Function.rows` of a function."""
    return FUNCTIONS[name].rows()
