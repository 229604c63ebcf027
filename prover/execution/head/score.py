"""How step sizes and the score are filled."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from circuits.head.constants import HEAD_BITS, ln_scaled
from circuits.head.score import NORM_LIMBS, Q_LIMIT, SCALED_LOSS_LIMBS, Score, StepSize
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
        for steps in (self.size.n_carries, *self.size.carries):
            w.fill_carries(steps, self.size.domain.axes)


class ScoreExecutor:
    """Log ratios, their deviation, and the slack of the threshold."""

    def __init__(self, score: Score) -> None:
        self.score = score

    def log_ratio(self, n: int, loss: int, k: int) -> int:
        """y of one step, Q32."""
        lk = loss << (2 * k)
        top = self.score.c1 * n + self.score.c2 * lk

        def value(v: int, limbs: int) -> int:
            return int(evaluate_ln(np.array([v], object), limbs)["ln"][0])

        d = value(top, len(self.score.top.tensor.digits)) - value(lk, SCALED_LOSS_LIMBS)
        d -= ln_scaled(self.score.scale.numerator, self.score.scale.denominator)
        return (d + (1 << (HEAD_BITS - 33))) >> (HEAD_BITS - 32)

    def finish(self, w: Witness, n: list[int], losses: list[int], scales: list[int], ys: list[int]) -> None:
        """Fill everything but the threshold (see `finish_threshold`)."""
        lk = np.array([l << (2 * k) for l, k in zip(losses, scales, strict=True)], object)
        top = self.score.c1 * np.array(n, object) + self.score.c2 * lk

        def put(view: View, value: Ints) -> None:
            w.put(view.tensor, value)

        put(self.score.lk, lk)
        put(self.score.top, top)
        fill_logarithm(self.score.ln_top, w, top)
        fill_logarithm(self.score.ln_loss, w, lk)
        d = evaluate_ln(top, len(self.score.top.tensor.digits))["ln"] - evaluate_ln(lk, SCALED_LOSS_LIMBS)["ln"]
        d = d - ln_scaled(self.score.scale.numerator, self.score.scale.denominator) + (1 << (HEAD_BITS - 33))
        put(self.score.y, np.array(ys, object))
        put(self.score.y_rem, d & ((1 << (HEAD_BITS - 32)) - 1))
        for steps in self.score.carries:
            w.fill_carries(steps, self.score.domain.axes)
        put(self.score.sum_y, np.array([sum(ys)], object))
        put(self.score.sum_yy, np.array([sum(y * y for y in ys)], object))
        w.fill_carries(self.score.yy_carries, (), self.score.yy_con.summed)

    def finish_threshold(self, w: Witness, ys: list[int]) -> None:
        """Fill the slack; raises ThresholdExceeded."""
        slack = (self.score.net.steps * self.score.tau) ** 2 - variance(ys)
        if self.score.tau < 0 or slack < 0:
            raise ThresholdExceeded(f"the score {score_of(ys):.6f} is above tau: nothing to prove")
        w.put(self.score.slack.tensor, np.array([slack], object))
        w.fill_carries(self.score.slack_carries, ())


def variance(ys: list[int]) -> int:
    """T sum y^2 - (sum y)^2 = T^2 Var, in units of 2^-64."""
    return len(ys) * sum(y * y for y in ys) - sum(ys) ** 2


def score_of(ys: list[int]) -> float:
    """The population standard deviation of the log ratios, in real units."""
    return float(Fraction(isqrt(variance(ys) << 64), len(ys) << 64))
