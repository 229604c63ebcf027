"""The reference semantics of exponentials, logarithms and the head, in plain integers."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import floor, gcd, isqrt, lcm

from tests.semantics.rounding import Refusal, rescale

ONE = 1 << 56  # 1.0 in the head
HALF = Fraction(1, 2)

# ------------------------------------------------------------------------------------------------ exp and ln


def nearest(x: Decimal) -> int:
    return int((x + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR"))


@cache
def exp_factor(chunk: int, v: int) -> int:
    """round(2^56 exp(-v 2^(18 + 4 chunk) / 2^32))."""
    with localcontext(prec=100):
        return nearest(ONE * (-Decimal(v << (18 + 4 * chunk)) / (1 << 32)).exp())


@cache
def ln_constant(x: Fraction) -> int:
    """round(2^56 ln x)."""
    with localcontext(prec=150):
        return nearest(ONE * (Decimal(x.numerator) / Decimal(x.denominator)).ln())


def exp_minus(x: int) -> int:
    """exp(-x), x >= 0 with 32 fractional bits: a cubic in the low 18 bits, five factors; zero from 64 on."""
    if x >> 38:
        return 0
    u = x % (1 << 18)
    square = (u * u + (1 << 8)) // (1 << 9)
    y = ONE - (u << 24) + square - (square * u + 3 * (1 << 31)) // (3 * (1 << 32))
    for chunk in range(5):
        y = rescale(y * exp_factor(chunk, (x >> (18 + 4 * chunk)) % 16), 56)
    return y


def ln(v: int) -> int:
    """ln v of an integer v >= 1: four factors bring its 66 leading bits close to 1, then a cubic."""
    exponent = v.bit_length() - 1
    w = (v << 66) >> (exponent + 1)  # 66 bits: the mantissa, in [1/2, 1)
    out = exponent * ln_constant(Fraction(2))
    for stage in range(4):
        bits, base = (66, 2 * ONE) if stage == 0 else (56, ONE)
        c = (w >> 61) % 16 if stage == 0 else (w - ONE) >> (52 - 4 * stage)
        unit = 16 ** (stage + 1)
        factor = -(-base * unit // (unit + c))
        out -= ln_constant(Fraction(factor, base))
        w = (w * factor) >> bits
    z = w - ONE
    square = (z * z) >> 57
    return out + z - square + 2 * square * z // (3 * ONE)


# ------------------------------------------------------------------------------------------------ head


def softmax(logits: list[int], label: int) -> tuple[list[int], int]:
    """Deltas and loss of one sample. The true class's delta is minus the sum of the others'."""
    x = [max(logits) - z for z in logits]
    e = [exp_minus(a) for a in x]
    deltas = [(a << 56) // sum(e) for a in e]
    deltas[label] = -sum(d for j, d in enumerate(deltas) if j != label)
    return deltas, ln(sum(e)) - 56 * ln_constant(Fraction(2)) + (x[label] << 24)


def loss_scale(largest: int) -> int:
    """The k with 2^(55-k) <= largest < 2^(56-k); 0 from 2^55 on."""
    k = max(0, 56 - largest.bit_length())
    if k > 31:
        raise Refusal("every sample has its true class at a probability too close to 1")
    return k


def step_size(n: int, rho: Fraction) -> int:
    """floor(rho 2^40 / (sqrt(n) / 2^32))."""
    if n == 0 or n >= 1 << 110:
        raise Refusal("the gradient vanishes or diverges")
    q = isqrt(floor(rho * rho * (1 << 144) / n))
    if q >= (1 << 60) - (1 << 43) - (1 << 21):
        raise Refusal("the gradient nearly vanishes")
    return q


def log_ratio(n: int, loss: int, k: int, batch: int, rho: Fraction, eps: Fraction) -> int:
    """ln(s^2 / L + eps) in Q32; s^2 / L = ratio n / (4^k loss), all as one quotient of integers."""
    ratio, scaled = rho * rho / (256 * batch), loss << (2 * k)
    common = lcm(ratio.denominator, eps.denominator)
    a, b = int(ratio * common), int(eps * common)
    divisor = gcd(a, b)
    numerator = (a * n + b * scaled) // divisor
    return rescale(ln(numerator) - ln(scaled) - ln_constant(Fraction(common, divisor)), 24)


def sharpness(n: int, k: int, batch: int, rho: Fraction) -> int:
    """floor(2^48 s_t)."""
    square = Fraction(n) * (rho / (batch << (32 + k))) ** 2
    return isqrt(floor(square * (1 << 96)))
