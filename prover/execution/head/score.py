"""How step sizes and the score are filled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from circuits.head.constants import HEAD_BITS, ln_scaled
from circuits.head.score import NORM_LIMBS, Q_LIMIT, SCALED_LOSS_LIMBS, LogRatios, Score, Sharpness, StepSize
from circuits.language.forms import View
from circuits.language.tensors import DIGIT_BITS
from zkcert.errors import RangeOverflow, ThresholdExceeded

from ..witness import Witness
from .logarithm import evaluate as evaluate_ln
from .logarithm import fill_logarithm
from .softmax import GradientTooSmall

Ints = NDArray[np.object_]


class StepSizeExecutor:
    """Solves for q and fills its inequalities."""

    def __init__(self, size: StepSize) -> None:
        self.size = size

    def solve(self, n: int, t: int) -> int:
        """q from n; raises GradientTooSmall."""
        a, b = self.size.rho.numerator, self.size.rho.denominator
        q = isqrt((a * a << 144) // (b * b * n)) if n else Q_LIMIT
        if q >= Q_LIMIT:
            raise GradientTooSmall(
                f"step {t}: ||T g|| of the batch's scaled loss is {isqrt(n) / 2.0**32:.3g}, below 2^-20 rho = "
                f"{a / b / 2.0**20:.3g}, where only rounding errors are left: this network has no gradient (dead "
                "ReLUs, weights of zero?), and no score"
            )
        if n >= 1 << (DIGIT_BITS * NORM_LIMBS):
            raise RangeOverflow("gradient norm", float(n) ** 0.5 / 2.0**32, 2.0**23)
        return q

    def finish(self, w: Witness, n: list[int], q: list[int]) -> None:
        a, b = self.size.rho.numerator, self.size.rho.denominator
        nn, qq = np.array(n, object), np.array(q, object)

        def put(view: View, value: Ints) -> None:
            w.put(view.tensor, value)

        put(self.size.n, nn)
        put(self.size.q, qq)
        put(self.size.qq, qq * qq)
        put(self.size.x1, qq * qq * nn)
        put(self.size.x2, (2 * qq + 1) * nn)
        put(self.size.low, (a * a << 144) - b * b * qq * qq * nn)
        put(self.size.high, b * b * (qq + 1) * (qq + 1) * nn - (a * a << 144) - 1)
        w.fill_carries_in(self.size.con)


class ScoreExecutor(ABC):
    """One value for each step, their statistic, and the slack of the threshold."""

    score: Score

    @staticmethod
    def of(score: Score) -> ScoreExecutor:
        """For the kind of score."""
        return LogRatioExecutor(score) if isinstance(score, LogRatios) else SharpnessExecutor(score)

    @abstractmethod
    def value(self, n: int, loss: int, k: int) -> int:
        """y of one step."""

    @abstractmethod
    def fill_values(self, w: Witness, n: Ints, losses: list[int], scales: list[int], ys: Ints) -> None:
        """Fill what the values are computed from, but for the carries."""

    def finish(self, w: Witness, n: list[int], losses: list[int], scales: list[int], ys: list[int]) -> None:
        """Fill everything but the threshold (see `finish_threshold`)."""
        score = self.score
        w.put(score.y.tensor, np.array(ys, object))
        self.fill_values(w, np.array(n, object), losses, scales, np.array(ys, object))
        w.fill_carries_in(score.con)
        if score.statistic.name == "max":
            return
        if score.statistic.centred:
            w.put(score.sum_y.tensor, np.array([sum(ys)], object))
        w.put(score.sum_yy.tensor, np.array([sum(y * y for y in ys)], object))
        w.fill_carries_in(score.yy_con)

    def finish_threshold(self, w: Witness, ys: list[int]) -> None:
        """Fill the slack; raises ThresholdExceeded."""
        score, kind = self.score, self.score.statistic
        gathered = kind.gathered(ys)
        slack = kind.weight * score.tau**2 - gathered
        if score.tau < 0 or slack < 0:
            raise ThresholdExceeded(f"the {kind.text}, {kind.score(gathered):.6f}, is above tau: nothing to prove")
        slacks = [score.tau - y for y in ys] if kind.name == "max" else [slack]
        w.put(score.slack.tensor, np.array(slacks, object))
        w.fill_carries_in(score.threshold)


class LogRatioExecutor(ScoreExecutor):
    """Fills log ratios."""

    def __init__(self, score: LogRatios) -> None:
        self.score: LogRatios = score

    def value(self, n: int, loss: int, k: int) -> int:
        lk = loss << (2 * k)
        top = self.score.c1 * n + self.score.c2 * lk

        def ln(v: int, limbs: int) -> int:
            return int(evaluate_ln(np.array([v], object), limbs)["ln"][0])

        d = ln(top, len(self.score.top.tensor.digits)) - ln(lk, SCALED_LOSS_LIMBS)
        d -= ln_scaled(self.score.scale.numerator, self.score.scale.denominator)
        return (d + (1 << (HEAD_BITS - 33))) >> (HEAD_BITS - 32)

    def fill_values(self, w: Witness, n: Ints, losses: list[int], scales: list[int], ys: Ints) -> None:
        lk = np.array([l << (2 * k) for l, k in zip(losses, scales, strict=True)], object)
        top = self.score.c1 * n + self.score.c2 * lk
        w.put(self.score.lk.tensor, lk)
        w.put(self.score.top.tensor, top)
        fill_logarithm(self.score.ln_top, w, top)
        fill_logarithm(self.score.ln_loss, w, lk)
        d = evaluate_ln(top, len(self.score.top.tensor.digits))["ln"] - evaluate_ln(lk, SCALED_LOSS_LIMBS)["ln"]
        d = d - ln_scaled(self.score.scale.numerator, self.score.scale.denominator) + (1 << (HEAD_BITS - 33))
        w.put(self.score.y_rem.tensor, d & ((1 << (HEAD_BITS - 32)) - 1))


class SharpnessExecutor(ScoreExecutor):
    """Fills sharpnesses."""

    def __init__(self, score: Sharpness) -> None:
        self.score: Sharpness = score

    def value(self, n: int, loss: int, k: int) -> int:
        return isqrt(self.score.above * n * self.score.factors[k] // self.score.below)

    def fill_values(self, w: Witness, n: Ints, losses: list[int], scales: list[int], ys: Ints) -> None:
        score = self.score
        norms = n * np.array([score.factors[k] for k in scales], object)
        w.put(score.norm.tensor, norms)
        w.put(score.yy.tensor, ys * ys)
        w.put(score.low.tensor, score.above * norms - score.below * ys * ys)
        w.put(score.high.tensor, score.below * (ys + 1) * (ys + 1) - score.above * norms - 1)
