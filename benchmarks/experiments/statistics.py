"""Rank correlations between a measure and a target over many models, and intervals over seeds.

Kendall's coefficients are those of Jiang et al., arXiv 1912.02178, Eq. 2: the mean over all pairs of models of
sign(m_a - m_b) sign(t_a - t_b), for a measure m and a target t; pairs tied in either count as 0 ("tau-a").
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_ROUNDING = 1e-12
"""Values that differ by less than this share of them are equal."""

Configuration = Mapping[str, Hashable]
"""Hyper-parameters of a model, by axis."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of models to compare, in slices: indices `a` and `b` [pairs], and the slice each pair belongs to."""

    a: np.ndarray
    b: np.ndarray
    slice_of: np.ndarray

    @staticmethod
    def of(slices: Sequence[Sequence[int]]) -> Pairs:
        """All pairs within each slice."""
        found = [(i, j, k) for k, s in enumerate(slices) for p, i in enumerate(s) for j in s[p + 1 :]]
        a, b, owner = np.array(found, np.int64).reshape(-1, 3).T
        return Pairs(a, b, owner)


def all_pairs(count: int) -> Pairs:
    """One slice with all of `count` models."""
    return Pairs.of([range(count)])


def axis_pairs(configurations: Sequence[Configuration], axis: str) -> Pairs:
    """A slice for each setting of all other keys: within it, only `axis` varies. Seeds are keys, too."""
    slices: dict[Hashable, list[int]] = {}
    for i, configuration in enumerate(configurations):
        others = tuple(sorted((key, value) for key, value in configuration.items() if key != axis))
        slices.setdefault(others, []).append(i)
    return Pairs.of(list(slices.values()))


def concordance(measure: np.ndarray, target: np.ndarray, pairs: Pairs) -> float:
    """The mean over slices of Kendall's coefficient within each; NaN if no slice has a pair."""
    agreement = _order(measure, pairs) * _order(target, pairs)
    count = int(pairs.slice_of.max(initial=-1)) + 1
    totals = np.bincount(pairs.slice_of, minlength=count)
    sums = np.bincount(pairs.slice_of, agreement, count)
    used = totals > 0
    return float(np.mean(sums[used] / totals[used])) if used.any() else math.nan


def _order(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    a, b = values[pairs.a], values[pairs.b]
    return (a > b).astype(float) - (a < b)


def granulated(measure: np.ndarray, target: np.ndarray, axes: Mapping[str, Pairs]) -> float:
    """The granulated coefficient Psi of Jiang et al., Eq. 6: the mean over axes of psi_i.

    psi_i is the mean of Kendall's coefficient over the slices in which only axis i varies, see `axis_pairs`. Axes
    without a pair are left out.
    """
    found = [concordance(measure, target, pairs) for pairs in axes.values()]
    known = [value for value in found if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def spearman(measure: np.ndarray, target: np.ndarray) -> float:
    """Spearman's coefficient: Pearson's of the ranks, mean ranks for ties; NaN if either is constant."""
    from scipy.stats import rankdata

    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (measure, target))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean of independent values, such as paired differences.

    Infinitely wide for fewer than two values, and for equal ones, which do not tell how far others would lie; undefined
    (NaN) if any is not finite.
    """
    from scipy.stats import t

    values = np.asarray(differences, float)
    if not np.isfinite(values).all():
        return math.nan, math.nan
    if len(values) < 2:
        return -math.inf, math.inf
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    if error <= _ROUNDING * np.abs(values).max():
        return -math.inf, math.inf
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return float(mean - reach), float(mean + reach)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """What a number was at each seed, its mean, and Student's 95 % interval for the mean: seeds, mean, low, high."""
    low, high = paired_interval(values)
    return {"seeds": [float(value) for value in values], "mean": float(np.mean(values)), "low": low, "high": high}
