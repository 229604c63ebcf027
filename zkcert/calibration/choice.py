"""How a threshold is chosen from the scores of models of known quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from zkcert.errors import UnusableInput
from zkcert.public.statement import MAX_TAU

SIGNIFICANT_DIGITS = 4
"""Of tau, which has at most 12 decimals."""

_FINEST = Fraction(1, 10**12)


def choose_tau(good: Sequence[float], bad: Sequence[float], risk: Fraction) -> Fraction:
    """The threshold for scores of good and bad draws at a risk in [0, 1).

    With n bad draws: the largest decimal of SIGNIFICANT_DIGITS below the k-th smallest bad score, k = floor(risk
    (n + 1)), but at least 1. A further bad draw, exchangeable with these, scores below the k-th smallest of them with
    probability at most k/(n + 1), hence <= tau with probability at most risk, unless risk (n + 1) < 1; of the n
    draws themselves at most k - 1 score <= tau. Without bad draws: the order statistic of rank ceil((m + 1)(1 - risk)),
    at most m, of the m good scores, rounded up; a further draw exceeds it with probability at most risk, unless
    risk (m + 1) < 1. This is the quantile of conformal prediction (Vovk, Gammerman and Shafer, 2005), on either side.
    Raises UnusableInput if there are no scores, or no threshold in (0, 128].
    """
    if not good:
        raise UnusableInput("a calibration needs at least one good model")
    if bad:
        rank = max(math.floor(risk * (len(bad) + 1)), 1)
        edge = sorted(bad)[rank - 1]
        tau = min(_rounded(edge, up=False), Fraction(MAX_TAU))
    else:
        rank = math.ceil((len(good) + 1) * (1 - risk))
        edge = sorted(good)[min(rank, len(good)) - 1]
        tau = _rounded(edge, up=True)
    if not 0 < tau <= MAX_TAU:
        raise UnusableInput(f"no threshold in (0, {MAX_TAU}] fits the scores: it would have to lie at {edge:g}")
    return tau


def _rounded(value: float, *, up: bool) -> Fraction:
    """The largest decimal of SIGNIFICANT_DIGITS digits below a score, or the smallest that is at least it."""
    if value <= 0:
        return Fraction(0)
    unit = max(Fraction(10) ** (math.floor(math.log10(value)) + 1 - SIGNIFICANT_DIGITS), _FINEST)
    return math.ceil(Fraction(value) / unit) * unit if up else (math.ceil(Fraction(value) / unit) - 1) * unit


def decimal(value: Fraction) -> str:
    """tau, a multiple of 10^-12, in decimal."""
    whole, rest = divmod(int(value * 10**12), 10**12)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")
