"""Functions by segments, once more: each segment where it is asked for, in decimals (docs/spec/functions.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

from tests.semantics.head import nearest
from tests.semantics.rounding import rescale

DIGITS = 50
TANH_CUBIC = Decimal("0.044715")


@cache
def pi() -> Decimal:
    """From the arctangent series of 1/5 and 1/239."""
    total, n = Decimal(0), 0
    while n < 80:
        sign, k = (-1) ** n, 2 * n + 1
        total += sign * (16 / (Decimal(5) ** k * k) - 4 / (Decimal(239) ** k * k))
        n += 1
    return total


def logistic(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def logistic_slope(x: Decimal) -> Decimal:
    return 1 / (2 + x.exp() + (-x).exp())


def density(x: Decimal) -> Decimal:
    return (-x * x / 2).exp() / (2 * pi()).sqrt()


def normal(x: Decimal) -> Decimal:
    """1/2 and the integral of the density's Taylor series, whose terms alternate: up to x = 7 they lose 11 digits."""
    total, power, n = Decimal(0), x, 0
    while abs(power) > Decimal(10) ** -DIGITS:
        total += power / (2 * n + 1)
        n += 1
        power *= -x * x / (2 * n)
    return Decimal("0.5") + total / (2 * pi()).sqrt()


def bent(x: Decimal) -> Decimal:
    return (8 / pi()).sqrt() * (x + TANH_CUBIC * x**3)


def bent_slope(x: Decimal) -> Decimal:
    return (8 / pi()).sqrt() * (1 + 3 * TANH_CUBIC * x**2)


@dataclass(frozen=True)
class Function:
    """f and f', the integers between which they are computed, and what f is beyond: a number, or None for its
    argument."""

    value: Callable[[Decimal], Decimal]
    slope: Callable[[Decimal], Decimal]
    low: int
    high: int
    below: int
    above: int | None

    def at(self, z: int) -> tuple[int, int]:
        """What is computed at z, in Q32, of f and of f'."""
        g, t = z >> 22, z % (1 << 22) - (1 << 21)
        middle, slope, bend = self.row(g)
        turn = rescale(bend * t, 22)
        return middle + rescale((slope + turn) * t), slope + 2 * turn

    def errors(self, step: int) -> tuple[float, float]:
        """The largest of f and of f' in units of 2^-32, at five points of every `step`-th segment."""
        worst = [Decimal(0), Decimal(0)]
        with localcontext() as context:
            context.prec = DIGITS
            for g in range(self.low * 1024, self.high * 1024, step):
                for offset in (0, 1 << 20, 1 << 21, 3 << 20, (1 << 22) - 1):
                    z = (g << 22) + offset
                    x = Decimal(z) / 2**32
                    real = self.value(x), self.slope(x)
                    worst = [max(w, abs(a - r * 2**32)) for w, a, r in zip(worst, self.at(z), real, strict=True)]
        return float(worst[0]), float(worst[1])

    def row(self, g: int) -> tuple[int, int, int]:
        """Of segment g, from g 2^-10 on: f in the middle and f' in Q32, its slope in units of 2^-21."""
        if g >> 10 < self.low:
            return self.below << 32, 0, 0
        if g >> 10 >= self.high:
            return ((2 * g + 1) << 21, 1 << 32, 0) if self.above is None else (self.above << 32, 0, 0)
        return self._inside(g)

    @cache  # noqa: B019 - there are seven functions
    def _inside(self, g: int) -> tuple[int, int, int]:
        with localcontext() as context:
            context.prec = DIGITS + 20
            middle = Decimal(2 * g + 1) / 2048
            left, right = self.slope(Decimal(g) / 1024), self.slope(Decimal(g + 1) / 1024)
            mean = (left + 2 * self.slope(middle) + right) / 4
            return nearest(self.value(middle) * 2**32), nearest(mean * 2**32), nearest((right - left) * 2**31)


FUNCTIONS = {
    "sigmoid": Function(logistic, logistic_slope, -23, 23, 0, 1),
    "tanh": Function(lambda x: 2 * logistic(2 * x) - 1, lambda x: 4 * logistic_slope(2 * x), -12, 12, -1, 1),
    "silu": Function(lambda x: x * logistic(x), lambda x: logistic(x) + x * logistic_slope(x), -27, 27, 0, None),
    "gelu": Function(lambda x: x * normal(x), lambda x: normal(x) + x * density(x), -7, 7, 0, None),
    "gelu_tanh": Function(
        lambda x: x * logistic(bent(x)),
        lambda x: logistic(bent(x)) + x * logistic_slope(bent(x)) * bent_slope(x),
        -7,
        7,
        0,
        None,
    ),
    "elu": Function(lambda x: x.exp() - 1, lambda x: x.exp(), -23, 0, -1, None),
    "softplus": Function(lambda x: (1 + x.exp()).ln(), logistic, -23, 23, 0, None),
}


if __name__ == "__main__":
    for name, function in FUNCTIONS.items():
        print("| `{}` | {:.2f} | {:.0f} |".format(name, *function.errors(7)))
