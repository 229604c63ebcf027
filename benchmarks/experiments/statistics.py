"""Rank correlations between a measure and a target over many models, and intervals for them.

Kendall's coefficients are those of Jiang et al., arXiv 1912.02178, Eq. 2: the mean over all pairs of models of
sign(m_a - m_b) sign(t_a - t_b), for a measure m and a target t; pairs tied in either count as 0 ("tau-a").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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


def concordance(measure: np.ndarray, target: np.ndarray, pairs: Pairs, weights: np.ndarray | None = None) -> float:
    """The mean over slices of Kendall's coefficient within each; NaN if no slice has a pair.

    weights [models], not negative: how often each model counts, as in a bootstrap sample. A slice's coefficient is
    then the mean over its pairs weighted by w_a w_b, so that a model is never compared with itself.
    """
    agreement = _order(measure, pairs) * _order(target, pairs)
    weight = np.ones(len(agreement)) if weights is None else weights[pairs.a] * weights[pairs.b]
    count = int(pairs.slice_of.max(initial=-1)) + 1
    totals = np.bincount(pairs.slice_of, weight, count)
    sums = np.bincount(pairs.slice_of, weight * agreement, count)
    used = totals > 0
    return float(np.mean(sums[used] / totals[used])) if used.any() else math.nan


def _order(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    a, b = values[pairs.a], values[pairs.b]
    return (a > b).astype(float) - (a < b)


def granulated(
    measure: np.ndarray, target: np.ndarray, axes: Mapping[str, Pairs], weights: np.ndarray | None = None
) -> float:
    """The granulated coefficient Psi of Jiang et al., Eq. 6: the mean over axes of psi_i.

    psi_i is the mean of Kendall's coefficient over the slices in which only axis i varies, see `axis_pairs`. Axes
    without a pair are left out.
    """
    found = [concordance(measure, target, pairs, weights) for pairs in axes.values()]
    known = [value for value in found if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def spearman(measure: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Spearman's coefficient: Pearson's of the ranks, mean ranks for ties; NaN if either is constant.

    weights [models]: how many times each model counts.
    """
    from scipy.stats import rankdata

    if weights is not None:
        index = np.repeat(np.arange(len(measure)), weights.astype(int))
        measure, target = measure[index], target[index]
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (measure, target))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def bootstrap(statistic: Callable[[np.ndarray], float], count: int, *, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """`statistic` of `draws` bootstrap samples of `count` models, given as how often each is in the sample [count]."""
    rng = np.random.default_rng([seed, 5])
    samples = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return np.array([statistic(sample.astype(float)) for sample in samples])


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples, undefined ones left out; (nan, nan) if all are."""
    known = samples[~np.isnan(samples)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean of paired differences; infinitely wide for fewer than two."""
    from scipy.stats import t

    values = np.asarray(differences, float)
    if len(values) < 2:
        return -math.inf, math.inf
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return float(mean - reach), float(mean + reach)
