"""Normative tables of the head, 56 fractional bits: the nearest integers to exactly defined reals."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

HEAD_BITS = 56
ONE = 1 << HEAD_BITS

# exp: x = u + sum_i 2^(18 + 4 i) c_i + 2^38 (hi), in units of 2^-32
EXP_LOW_BITS = 18
EXP_CHUNKS = 5
EXP_TOP = EXP_LOW_BITS + 4 * EXP_CHUNKS  # from 2^38 units (64 nats) on, exp is zero

# log: stages of four bits; stage i resolves the mantissa to 2^-(4 (i + 1))
LOG_STAGES = 4
LOG_TABLE = (16, 17, 17, 17)


def _nearest(x: Decimal) -> int:
    return int((x + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR"))


@cache
def exp_table(chunk: int) -> tuple[int, ...]:
    """round(2^56 exp(-v 2^(18 + 4 chunk - 32))) for v = 0..15."""
    with localcontext() as ctx:
        ctx.prec = 80
        unit = Decimal(2) ** (EXP_LOW_BITS + 4 * chunk - 32)
        return tuple(_nearest(Decimal(ONE) * (-unit * v).exp()) for v in range(16))


@cache
def log_factors(stage: int) -> tuple[int, ...]:
    """ceil(2^b / (1 + c 2^-(4 (stage + 1)))) with b = 57 at stage 0 (the mantissa lies in [1/2, 1)) and 56 later."""
    base = ONE << (stage == 0)
    unit = 1 << (4 * (stage + 1))
    return tuple(-(-base * unit // (unit + c)) for c in range(LOG_TABLE[stage]))


@cache
def log_table(stage: int) -> tuple[int, ...]:
    """round(-2^56 ln(factor / 2^b)) of the factors above."""
    with localcontext() as ctx:
        ctx.prec = 80
        base = Decimal(ONE << (stage == 0))
        return tuple(_nearest(-Decimal(ONE) * (Decimal(f) / base).ln()) for f in log_factors(stage))


@cache
def ln_scaled(numerator: int, denominator: int = 1) -> int:
    """round(2^56 ln(numerator / denominator))."""
    with localcontext() as ctx:
        ctx.prec = 120
        return _nearest(Decimal(ONE) * (Decimal(numerator) / Decimal(denominator)).ln())
