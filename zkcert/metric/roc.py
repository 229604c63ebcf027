"""How well scores tell two kinds apart: area under the ROC curve, its interval, the best accuracy.

The two kinds are `low` and `high`: scores of the first are expected to be smaller. Which is which is decided before
anything is scored, so an AUC below 1/2 is a result and is reported as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


def roc(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the rule "low if score <= threshold": shares of `high` and of `low` it calls low, and its thresholds.

    The arrays run from (0, 0), threshold -inf, to (1, 1). Scores must be finite.
    """
    from sklearn.metrics import roc_curve

    scores, kinds = _joined(low, high)
    wrong, right, thresholds = roc_curve(kinds == 0, -scores, drop_intermediate=False)
    return wrong, right, -thresholds


def auc(low: ArrayLike, high: ArrayLike) -> float:
    """P(score of a `high` > score of a `low`) + P(equal) / 2: the area under `roc`."""
    from sklearn.metrics import roc_auc_score

    scores, kinds = _joined(low, high)
    return float(roc_auc_score(kinds, scores))


def _joined(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])


def delong(low: ArrayLike, high: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval for the AUC of two independent samples, each of at least two scores.

    AUC -+ z sqrt(S10/m + S01/n), cut to [0, 1], where S10 and S01 are the sample variances of the placements
    V10(i) = mean_j psi(low_i, high_j) and V01(j) = mean_i psi(low_i, high_j), psi = 1, 1/2, 0 for low <, =, > high:
    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; by ranks as in Sun and Xu, IEEE SPL 21, 2014. A perfect
    separation gives an interval of no width, which says nothing of its uncertainty.
    """
    from scipy.stats import norm, rankdata

    scores, kinds = _joined(low, high)
    m, n = int((kinds == 0).sum()), int((kinds == 1).sum())
    ranks = rankdata(scores)
    below = ranks[kinds == 1] - rankdata(scores[kinds == 1])  # for each high: lows below it, ties by half
    above = n - (ranks[kinds == 0] - rankdata(scores[kinds == 0]))  # for each low: highs above it
    area = below.sum() / (m * n)
    error = float(norm.ppf((1 + confidence) / 2)) * np.sqrt(
        np.var(above / n, ddof=1) / m + np.var(below / m, ddof=1) / n
    )
    return max(0.0, float(area - error)), min(1.0, float(area + error))


@dataclass(frozen=True)
class Discrimination:
    """How well one score tells `low` from `high`.

    auc, auc_low, auc_high  the area under the ROC curve and its 95 % interval (`delong`).
    accuracy                the best balanced accuracy of "low if score <= threshold": (share of low called low + share
                            of high called high) / 2. The threshold is chosen on the same scores, so it is at least
                            1/2, and above it by chance.
    threshold               the one that gives it, the smallest if several do; -inf calls everything high.
    """

    auc: float
    auc_low: float
    auc_high: float
    accuracy: float
    threshold: float

    @staticmethod
    def of(low: ArrayLike, high: ArrayLike) -> Discrimination:
        """From finite scores, at least two of each kind."""
        wrong, right, thresholds = roc(low, high)
        accuracy = (right + 1 - wrong) / 2
        best = int(np.argmax(accuracy))
        return Discrimination(auc(low, high), *delong(low, high), float(accuracy[best]), float(thresholds[best]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a threshold of -inf is null."""
        threshold = self.threshold if np.isfinite(self.threshold) else None
        return {
            "auc": self.auc,
            "auc_interval": [self.auc_low, self.auc_high],
            "balanced_accuracy": self.accuracy,
            "threshold": threshold,
        }
