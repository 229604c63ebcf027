"""How well a number tells well-trained models from defective ones: AUC, effect size, permutation test, jackknife.

There is a model of either kind per seed, in the same order. Both share what the seed draws (data, initialisation), so
seeds are the units of the test and of the jackknife.

The orientation is decided before the numbers are seen: `expected` is +1 where a defect should raise the number and -1
where it should lower it. All figures refer to the number times `expected`, so that an AUC below 1/2 or a negative
effect says that the defect moves it the wrong way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from zkcert.errors import UnusableInput

CLEAR_AUC, POOR_AUC, ALPHA = 0.9, 0.7, 0.05
"""Thresholds of `verdict`."""

Z = 1.959963984540054
"""The normal distribution's 0.975 quantile."""

TIE = 1e-12
"""AUCs closer than this differ by rounding."""

SWAPS = 20_000
"""The permutation test enumerates up to so many ways to swap the models of some seeds, and samples as many of more."""

Floats = npt.NDArray[np.float64]


def auc(clean: npt.ArrayLike, defective: npt.ArrayLike) -> float:
    """P(defective > clean) + P(equal) / 2 for a pair drawn at random: the area under the ROC curve (Mann-Whitney U)."""
    a, b = np.sort(np.ravel(clean)), np.ravel(defective)
    below = np.searchsorted(a, b, "left").sum() + np.searchsorted(a, b, "right").sum()
    return float(below / (2 * len(a) * len(b)))


def effect_size(clean: npt.ArrayLike, defective: npt.ArrayLike) -> float:
    """Cohen's d: difference of the means over the pooled deviation sqrt(((n-1) s^2 + (m-1) s'^2) / (n + m - 2)).

    NaN where the pooled deviation is 0, there are fewer than three values, or some are infinite.
    """
    a, b = np.ravel(clean).astype(np.float64), np.ravel(defective).astype(np.float64)
    freedom = len(a) + len(b) - 2
    if freedom < 1 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    pooled = np.sqrt((((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / freedom)
    return float((b.mean() - a.mean()) / pooled) if pooled > 0 else float("nan")


def p_value(clean: Floats, defective: Floats, seed: int = 0) -> float:
    """One-sided permutation test on the AUC: how likely one so large is if labels are by chance within seeds.

    Both [seeds]. Exact where there are at most `SWAPS` ways to swap the two models of some seeds; else
    (k + 1) / (SWAPS + 1) from sampled ones.
    """
    seeds = len(clean)
    both = np.concatenate([clean, defective])
    above = (both[None, :] > both[:, None]) + (both[None, :] == both[:, None]) / 2
    exact = 2**seeds <= SWAPS
    if exact:
        swaps = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    else:
        swaps = np.random.default_rng(seed).integers(0, 2, (SWAPS, seeds))
    first = np.arange(seeds) + seeds * swaps
    second = np.arange(seeds) + seeds * (1 - swaps)
    areas = np.array([above[np.ix_(a, b)].mean() for a, b in zip(first, second, strict=True)])
    reached = int((areas >= auc(clean, defective) - TIE).sum())
    return reached / len(swaps) if exact else (reached + 1) / (SWAPS + 1)


def smallest_p(seeds: int) -> float:
    """The smallest p-value that models of so many seeds can give: one way to swap them over all."""
    return 0.5**seeds


def score_interval(area: float, models: int, others: int) -> tuple[float, float]:
    """95% interval of the AUC over independent models, from its value and the numbers of both kinds.

    All T with |area - T| <= z sqrt(T (1 - T) (1 + ((n + m) / 2 - 1) ((1 - T) / (2 - T) + T / (1 + T))) / (n m)):
    Method 5 of Newcombe, Statistics in Medicine 25 (2006) 559. Unlike a bootstrap's, it has a width at 0 and 1.
    """
    from scipy.optimize import brentq

    def excess(t: float) -> float:
        shape = 1 + ((models + others) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t))
        return (area - t) ** 2 - Z**2 * t * (1 - t) * shape / (models * others)

    low = brentq(excess, 0.0, min(area, 1 - TIE)) if area > 0 else 0.0
    high = brentq(excess, max(area, TIE), 1.0) if area < 1 else 1.0
    return float(low), float(high)


def _pairs(clean: Floats, defective: Floats) -> Floats:
    """The AUC of every clean model against every defective one, [seeds, seeds], from their draws."""
    return np.array([[auc(a, b) for b in defective] for a in clean])


def jackknife(pairs: Floats) -> tuple[float, float]:
    """95% interval of the mean of pairs [seeds, seeds], by leaving out one seed, its row and its column, at a time.

    mean +- t sqrt((n - 1) / n sum_i (m_i - m)^2) with Student's t of n - 1 degrees, m_i the means that are left and m
    their mean: Arvesen, Annals of Mathematical Statistics 40 (1969) 2076. Infinite for a single seed.
    """
    from scipy.stats import t

    n = len(pairs)
    if n < 2:
        return float("-inf"), float("inf")
    rest = [[j for j in range(n) if j != i] for i in range(n)]
    left = np.array([pairs[np.ix_(some, some)].mean() for some in rest])
    half = float(t.ppf(0.975, n - 1)) * math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
    return float(pairs.mean() - half), float(pairs.mean() + half)


@dataclass(frozen=True)
class Separation:
    """What `separation` finds. Means and deviations (of a sample, NaN for one model) are over the models' means.

    auc           over all pairs of a clean and a defective value, models x draws; low, high: its 95% interval, see
                  `jackknife`, within 0 and 1
    auc_models    of the models' means; models_low, models_high: its 95% interval, see `score_interval`
    p             of a permutation test on the models' means, see `p_value`; p_floor: the smallest there could be
    effect        Cohen's d of the models' means
    expected      +1 where larger was expected of defective models, -1 where smaller
    clean_failed, failed: values that are not finite: draws in which the measure vanished or diverged
    """

    auc: float
    low: float
    high: float
    auc_models: float
    models_low: float
    models_high: float
    p: float
    p_floor: float
    effect: float
    clean_mean: float
    clean_sd: float
    mean: float
    sd: float
    models: int
    expected: int
    clean_failed: int
    failed: int

    @property
    def verdict(self) -> str:
        """See `verdict`; inconclusive where draws failed, for then the mean of a model is infinite."""
        if self.clean_failed or self.failed:
            return INCONCLUSIVE
        return verdict(self.auc_models, self.models_high, self.p, self.p_floor)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def separation(clean: npt.ArrayLike, defective: npt.ArrayLike, expected: int) -> Separation:
    """Compare values [seeds] or [seeds, draws] of well-trained and of defective models, in the same order of seeds.

    Values may be infinite: they take part by rank, are counted, and make the verdict inconclusive. NaN is refused with
    UnusableInput: a model that cannot be measured is not to be left out.
    """
    a, b = (_table(values) for values in (clean, defective))
    if expected not in (-1, 1):
        raise ValueError(f"expected must be 1 or -1, not {expected}")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} well-trained and {len(b)} defective models: there must be one of either per seed")
    means = a.mean(1), b.mean(1)
    low, high = jackknife(_pairs(expected * a, expected * b))
    auc_models = auc(expected * means[0], expected * means[1])
    models_low, models_high = score_interval(auc_models, len(a), len(b))
    return Separation(
        auc=auc(expected * a, expected * b),
        low=max(0.0, low),
        high=min(1.0, high),
        auc_models=auc_models,
        models_low=models_low,
        models_high=models_high,
        p=p_value(expected * means[0], expected * means[1]),
        p_floor=smallest_p(len(a)),
        effect=effect_size(expected * means[0], expected * means[1]),
        clean_mean=float(means[0].mean()),
        clean_sd=deviation(means[0]),
        mean=float(means[1].mean()),
        sd=deviation(means[1]),
        models=len(a),
        expected=expected,
        clean_failed=int((~np.isfinite(a)).sum()),
        failed=int((~np.isfinite(b)).sum()),
    )


def deviation(values: npt.ArrayLike) -> float:
    """Standard deviation of a sample; NaN for a single value, and if some are infinite."""
    array = np.asarray(values, np.float64)
    return float(array.std(ddof=1)) if len(array) > 1 and np.isfinite(array).all() else float("nan")


def mean_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """Student's t interval of the mean of independent values, 95%; infinite for a single value."""
    from scipy.stats import t

    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return float("-inf"), float("inf")
    half = float(t.ppf(0.975, len(array) - 1)) * deviation(array) / np.sqrt(len(array))
    return float(array.mean() - half), float(array.mean() + half)


def _table(values: npt.ArrayLike) -> Floats:
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0 or np.isnan(table).any():
        raise UnusableInput("a separation needs a value of every model and draw")
    return table


def verdict(auc_models: float, high: float, p: float, p_floor: float) -> str:
    """The rule for "the number tells such models from well-trained ones"; high: the upper end of auc_models' interval.

    reproduced                       AUC over models at least CLEAR_AUC, and p at most ALPHA;
    not reproduced                   its interval ends below POOR_AUC (so for the wrong direction), with so many models
                                     that p could have been at most ALPHA;
    inconclusive at this scale       otherwise.
    """
    if auc_models >= CLEAR_AUC and p <= ALPHA:
        return REPRODUCED
    if high < POOR_AUC and p_floor <= ALPHA:
        return NOT_REPRODUCED
    return INCONCLUSIVE


RULE = (
    f"reproduced if the AUC over models (their means over draws) is at least {CLEAR_AUC} and a one-sided permutation "
    f"test (models of one seed swap kinds) gives p <= {ALPHA}; not reproduced if the 95% interval of that AUC "
    f"(Newcombe's method 5, over models) ends below {POOR_AUC} although p could have been <= {ALPHA}; inconclusive "
    "otherwise, and where draws failed (the measure vanished or diverged)"
)
"""`verdict` in words."""

Pair = tuple[Floats, Floats]
"""A first and a second number of the same models, [models] or [models, draws]; larger where defects are expected."""


def difference(groups: Sequence[tuple[Pair, Pair]]) -> tuple[float, float, float]:
    """AUC of a first number minus that of a second, mean over groups, with its 95% interval by the `jackknife`.

    groups  (well-trained, defective) per kind of defect; all have a model per seed, in the same order. What shares a
            seed is left out together, in all groups and both numbers.
    """
    pairs = []
    for (a1, a2), (b1, b2) in groups:
        pairs.append(_pairs(_table(a1), _table(b1)) - _pairs(_table(a2), _table(b2)))
    blocks = np.stack(pairs).mean(0)
    return float(blocks.mean()), *jackknife(blocks)


def between(low: float, high: float, digits: int = 3) -> str:
    """An interval for people; one without a width, of numbers that are all at an end or tied, says nothing."""
    return f"[{low:.{digits}f}, {high:.{digits}f}]" if high - low > TIE else "[no spread]"


def refuted(seeds: int) -> float:
    """The largest AUC over models, of so many seeds, that `verdict` takes for a refutation; NaN if none is."""
    areas = [k / (2 * seeds**2) for k in range(2 * seeds**2 + 1)]
    low = [area for area in areas if score_interval(area, seeds, seeds)[1] < POOR_AUC]
    return max(low) if low and smallest_p(seeds) <= ALPHA else float("nan")


def sign(low: float, high: float) -> str:
    """Whether a number is positive, from its interval: that it is not takes an interval below 0 that has a width.

    An interval without one comes of ties (two AUCs of 1, say) or saturation: it does not measure any spread.
    """
    if low > TIE:
        return REPRODUCED
    return NOT_REPRODUCED if high < -TIE and high - low > TIE else INCONCLUSIVE
