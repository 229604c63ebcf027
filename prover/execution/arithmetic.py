"""Exact products of digits in float64, and rounded quotients of limbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS
from circuits.net import FRACTION_BITS
from zkcert.errors import RangeOverflow

from .workers import by_rows

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

MATMUL_TERMS = 1 << 11  # digits of at most 2^21 in magnitude: sums up to 2^53 are exact in float64


def exact_terms(a: int, b: int) -> int:
    """How many products of limbs up to a and b in magnitude `exact_matmul` may add up in float64."""
    return (1 << 53) // (a * b)


def exact_matmul(a: Sequence[F64], b: Sequence[F64], terms: int = MATMUL_TERMS) -> list[I64]:
    """Limbs 2^(22 k) of a @ b for digits a (..., m, k) and b (..., k, n), as floats: int64 (..., m, n) each, exact.

    `terms`: how many products float64 holds; the default is right for balanced digits.
    """
    out: list[I64] = []
    for limb in range(len(a) + len(b) - 1):
        total = np.zeros((*a[0].shape[:-1], b[0].shape[-1]), np.int64)
        for i in range(max(0, limb + 1 - len(b)), min(limb + 1, len(a))):
            for s in range(0, a[0].shape[-1], terms):
                add_integers(total, a[i][..., s : s + terms] @ b[limb - i][..., s : s + terms, :])
        out.append(total)
    return out


def add_integers(total: I64, part: F64) -> None:
    """total += part, of one shape; the floats are integers."""

    def add(rows: slice) -> None:
        total[rows] += part[rows].astype(np.int64)

    by_rows(total.shape, add)


def limb_products(a: Sequence[I64], b: Sequence[I64]) -> list[I64]:
    """Limbs of the element-wise product of digit arrays, broadcasting."""
    out: list[I64] = []
    for limb in range(len(a) + len(b) - 1):
        terms = [a[i] * b[limb - i] for i in range(max(0, limb + 1 - len(b)), min(limb + 1, len(a)))]
        for more in terms[1:]:
            terms[0] += more
        out.append(terms[0])
    return out


def floor_limbs(limbs: Sequence[I64], const: int, bits: int, where: str, limit: int = 43) -> tuple[I64, I64]:
    """Quotient and remainder of ``(sum_k limbs_k 2^(22 k) + const) / 2^bits``, floor; |quotient| < 2^limit.

    Raises RangeOverflow naming `where` when the quotient does not fit.
    """
    approx = sum(l.astype(np.float64) * 2.0 ** (DIGIT_BITS * k) for k, l in enumerate(limbs)) / 2.0**bits
    worst = float(np.max(np.abs(approx), initial=0.0))
    if worst >= 2.0**limit:
        raise RangeOverflow(
            where,
            worst / 2.0**FRACTION_BITS,
            2.0 ** (limit - FRACTION_BITS),
            "scale the model or its inputs down",
        )
    mask = (1 << DIGIT_BITS) - 1
    low = np.zeros(np.shape(approx), np.int64)
    carry = np.zeros(np.shape(approx), np.int64)
    done = 0
    for k, limb in enumerate(limbs):
        total = limb + carry + ((const >> (DIGIT_BITS * k)) & mask)
        width = min(DIGIT_BITS, bits - done)
        if width < DIGIT_BITS or k + 1 == len(limbs):
            # The rest is the quotient, shifted by `width` bits.
            rest = total + ((const >> (DIGIT_BITS * (k + 1))) << DIGIT_BITS)
            for up, more in enumerate(limbs[k + 1 :], 1):
                rest = rest + (more << (DIGIT_BITS * up))  # wraps only where the quotient would not fit
            low += (rest & ((1 << width) - 1)) << done
            return rest >> width, low
        low += (total & mask) << done
        carry, done = total >> DIGIT_BITS, done + DIGIT_BITS
    raise AssertionError("no limbs")
