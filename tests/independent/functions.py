"""Functions by segments (functions.md): their tables, in decimals."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, getcontext
from functools import cache

D = Decimal
PRECISION = 36
Real = Callable[[Decimal], Decimal]


def _round(x: Decimal) -> int:
    return int((x + D("0.5")).to_integral_value(rounding="ROUND_FLOOR"))


@cache
def _pi() -> Decimal:
    """By the arithmetic-geometric mean."""
    a, b, t, p = D(1), 1 / D(2).sqrt(), D("0.25"), D(1)
    for _ in range(7):
        a, b, t, p = (a + b) / 2, (a * b).sqrt(), t - p * ((a - b) / 2) ** 2, 2 * p
    return (a + b) ** 2 / (4 * t)


def _bell(x: Decimal) -> Decimal:
    return (-x * x / 2).exp() / (2 * _pi()).sqrt()


@cache
def _phi(x: Decimal) -> Decimal:
    """Phi(x) = 1/2 + bell(x) (x + x^3/3 + x^5/(3 5) + ...)."""
    total, term, n = D(0), x, 1
    while abs(term) > D(10) ** -PRECISION:
        total += term
        n += 2
        term = term * x * x / n
    return D("0.5") + _bell(x) * total


def _s(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _tanh(x: Decimal) -> Decimal:
    e = (-2 * x).exp()
    return (1 - e) / (1 + e)


def _inner(x: Decimal) -> Decimal:
    return (2 / _pi()).sqrt() * (x + D("0.044715") * x**3)


def _gelu_tanh_slope(x: Decimal) -> Decimal:
    h, inner = _tanh(_inner(x)), (2 / _pi()).sqrt() * (1 + D("0.134145") * x * x)
    return (1 + h + x * (1 - h * h) * inner) / 2


FUNCTIONS: dict[str, tuple[Real, Real, int, int, int, int | None]] = {
    "sigmoid": (_s, lambda x: _s(x) * _s(-x), -23, 23, 0, 1),
    "tanh": (_tanh, lambda x: 1 - _tanh(x) ** 2, -12, 12, -1, 1),
    "silu": (lambda x: x * _s(x), lambda x: _s(x) * (1 + x * _s(-x)), -27, 27, 0, None),
    "gelu": (lambda x: x * _phi(x), lambda x: _phi(x) + x * _bell(x), -7, 7, 0, None),
    "gelu_tanh": (lambda x: x * (1 + _tanh(_inner(x))) / 2, _gelu_tanh_slope, -7, 7, 0, None),
    "elu": (lambda x: x.exp() - 1, lambda x: x.exp(), -23, 0, -1, None),
    "softplus": (lambda x: (1 + x.exp()).ln(), _s, -23, 23, 0, None),
}
"""f, f', low, high, below, above (None: its argument)."""


@cache
def decay() -> tuple[tuple[int, ...], ...]:
    """The table of DECAY."""
    getcontext().prec = PRECISION
    out, falls = [], [-(-D(g) / 1024).exp() for g in range(23 * 1024 + 1)]
    for g in range(23 * 1024):
        middle = (-D(2 * g + 1) / 2048).exp()
        mean = (falls[g] - 2 * middle + falls[g + 1]) / 4
        out.append((g, _round(2**32 * middle), _round(2**32 * mean), _round(2**31 * (falls[g + 1] - falls[g]))))
    return (*out, (23 * 1024, 0, 0, 0))


def ends(name: str) -> tuple[int, int]:
    """first and last."""
    low, high = FUNCTIONS[name][2:4]
    return 1024 * low - 1, 1024 * high


@cache
def rows(name: str) -> tuple[tuple[int, ...], ...]:
    """The table."""
    getcontext().prec = PRECISION
    f, slope, _, _, below, above = FUNCTIONS[name]
    first, last = ends(name)
    out: list[tuple[int, ...]] = [(first, below << 32, 0, 0)]
    right = slope(D(first + 1) / 1024)
    for g in range(first + 1, last):
        left, right, m = right, slope(D(g + 1) / 1024), D(2 * g + 1) / 2048
        mean = (left + 2 * slope(m) + right) / 4
        out.append((g, _round(2**32 * f(m)), _round(2**32 * mean), _round(2**31 * (right - left))))
    out.append((last, (2 * last + 1) << 21, 1 << 32, 0) if above is None else (last, above << 32, 0, 0))
    return tuple(out)
