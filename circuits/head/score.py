"""From exact norms and losses to the score: step size q, log ratios or sharpnesses y_t, and the threshold.

Per step, with n = sum E^2 (exact) and rho = a / b:

    q = floor(rho 2^40 / (sqrt(n) / 2^32)):   b^2 q^2 n <= a^2 2^144 < b^2 (q + 1)^2 n,   q < 2^60 - 2^43 - 2^21,
    s_t^2 / L_t = rho^2 n 2^56 / (2^64 4^k B^2 L / B),
    y_t = floor((ln N - ln (4^k L) + c + 2^23) / 2^24) in Q32, where N and c make N / (4^k L) e^c = s_t^2/L_t + eps,
    weight tau^2 - gathered(y) >= 0 over the integers, as `statistic` has it.

A statistic of s_t itself has y_t = floor(2^48 s_t) instead: with m = 4^(31 - k) n and c = (b B)^2 2^30,

    c y^2 <= a^2 m < c (y + 1)^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd

import numpy as np

from circuits.language.constraints import Constraint, PublicTensor
from circuits.language.forms import View
from circuits.language.sources import ONCE, Sum
from circuits.language.tensors import B22, DIGIT_BITS, U22, Digit, balanced, radix, unsigned
from circuits.language.wide import Domain, Limbs, limb_forms
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, Net
from ..probe import Parameter
from .constants import HEAD_BITS, ln_scaled
from .exponential import table_limbs
from .logarithm import Logarithm
from .softmax import MAX_SCALE, Softmax
from .statistic import SHARPNESS_BITS, Statistic

Q_DIGITS = radix(B22, B22, unsigned(16))  # balanced limbs keep the carries of q V small
Q_LIMIT = (1 << 60) - (1 << 43) - (1 << 21)  # sqrt(n) of 2^12 rho: a gradient of rounding errors
Q_SQUARE_LIMBS = 6
LOG_RATIO = radix(B22, balanced(18))  # |y| < 2^39 / 2^32 = 128 nats
NORM_LIMBS = 5
SCALED_LOSS_LIMBS = 6
SLACK_LIMBS = 5
SCALED_NORM_LIMBS = 8  # 4^31 n < 2^172
SHARPNESS = radix(U22, U22, U22, unsigned(8))  # 2^48 s_t < rho 2^71
SHARPNESS_SQUARE_LIMBS, SHARPNESS_SLACK_LIMBS = 7, 9
SHARPNESS_SUM_LIMBS = 8, 6  # of squares, and of the slack: T^2 tau^2 < 2^130


class StepSize:
    """n and q of every step. Declared before the parameters' perturbation, which reads `self.q`."""

    def __init__(self, net: Net, rho: Fraction) -> None:
        self.net, self.rho = net, rho
        self.domain = Domain(net.circuit, (net.step_axis(),))
        self.q = self.domain.wire("step-size/q", Q_DIGITS)

    def declare(self, parameters: Sequence[Parameter]) -> None:
        net, domain = self.net, self.domain
        a, b = self.rho.numerator, self.rho.denominator
        self.con = con = domain.constraint("step-size")

        def wire(label: str, count: int) -> View:
            return domain.wire(f"step-size/{label}", radix(*[U22] * count))

        self.n = wire("n", NORM_LIMBS)
        limbs = Limbs().add_value(self.n, -1)
        for p in parameters:
            for view, power in zip(p.squares, (0, DIGIT_BITS + 1, 2 * DIGIT_BITS), strict=True):
                sums = tuple(Sum(size) for size in view.tensor.shape)
                limbs.add_value(View(view.tensor, (net.step_axis(), *sums)), 1, power)
        domain.zero(con, "n", limbs)
        # X1 = q^2 n and X2 = (2 q + 1) n, then both inequalities by non-negative slacks
        self.qq, self.x1, self.x2 = wire("q2", Q_SQUARE_LIMBS), wire("q2n", 7), wire("2qn", 7)
        self.low, self.high = wire("low", 9), wire("high", 9)
        q, n = limb_forms(self.q), limb_forms(self.n)
        domain.zero(con, "q2", Limbs().add_product(q, q).add_value(self.qq, -1))
        domain.zero(con, "q2n", Limbs().add_product(limb_forms(self.qq), n).add_value(self.x1, -1))
        domain.zero(con, "2qn", Limbs().add_product(q, n, 2).add_value(self.n).add_value(self.x2, -1))
        lower = Limbs().add_const(a * a << 144).add_value(self.low, -1).add_multiple(self.x1, -(b * b))
        domain.zero(con, "low", lower)
        upper = Limbs().add_const(-(a * a << 144) - 1).add_value(self.high, -1)
        upper.add_multiple(self.x1, b * b).add_multiple(self.x2, b * b)
        domain.zero(con, "high", upper)


class Score:
    """One value `y` for each step, and that their statistic is at most tau. What the values are, subclasses declare."""

    con: Constraint
    y: View

    def __init__(self, net: Net, statistic: Statistic) -> None:
        self.net, self.statistic = net, statistic
        self.domain = Domain(net.circuit, (net.step_axis(),))
        self.whole = Domain(net.circuit, ())

    def _wire(self, label: str, count: int) -> View:
        return self.domain.wire(f"score/{label}", radix(*[U22] * count))

    def _scaled(self, head: Softmax, factors: tuple[int, ...], view: View) -> Limbs:
        """The product of a step's value with the factor that belongs to its k."""
        evens = self.net.over_steps("pass", 0)
        chosen = [head.scale_form(limb, evens) for limb in table_limbs(factors)]
        return Limbs().add_product(chosen, limb_forms(view))

    def _declare_statistic(self) -> None:
        """Once `y` is declared."""
        circuit, ratios, steps = self.net.circuit, self.statistic.of_ratios, self.domain.axes
        if self.statistic.name == "max":  # a slack for every step
            self.slack = self._wire("slack", 3)
            self.threshold = circuit.constraint("score/threshold", steps)
            return
        squares, slack = (SLACK_LIMBS, SLACK_LIMBS) if ratios else SHARPNESS_SUM_LIMBS
        if self.statistic.centred:
            total = radix(B22, B22, balanced(8)) if ratios else radix(U22, U22, U22, unsigned(18))
            self.sum_y = self.whole.wire("score/sum", total)
        self.sum_yy = self.whole.wire("score/squares", radix(*[U22] * squares))
        self.slack = self.whole.wire("score/slack", radix(*[U22] * slack))
        self.yy_con = circuit.constraint("score/squares", (), steps)
        y = limb_forms(self.y)
        limbs = Limbs().add_product(y, y).add_value(self.sum_yy, -1)
        self.whole.zero(self.yy_con, "squares", limbs)
        self.threshold = circuit.constraint("score/threshold", ())
        added = View(self.y.tensor, (ONCE, Sum(self.net.steps)))
        if ratios:
            self.threshold.add("sum", added.whole() - self.sum_y.whole())
        elif self.statistic.centred:
            limbs = Limbs().add_value(added).add_value(self.sum_y, -1)
            self.whole.zero(self.threshold, "sum", limbs)

    def close(self, tau: int) -> None:
        """Add the threshold `tau` (see `Statistic.tau_units`)."""
        limbs, domain = Limbs(), self.whole
        if self.statistic.name == "max":
            limbs.add_const(tau).add_value(self.slack, -1).add_value(self.y, -1)
            domain = self.domain
        else:
            limbs.add_const(self.statistic.weight * tau**2).add_value(self.slack, -1)
            limbs.add_value(self.sum_yy, -self.net.steps if self.statistic.centred else -1)
        if self.statistic.centred:
            limbs.add_product(limb_forms(self.sum_y), limb_forms(self.sum_y))
        domain.zero(self.threshold, "threshold", limbs)
        self.tau = tau

    def reveal(self, revealed: int) -> None:
        """Make what the statistic gathers public; after `close`."""
        if self.statistic.name == "max":
            raise UnusableInput("the statistic max cannot be revealed")
        limbs = len(self.slack.tensor.digits)
        value = self.statistic.weight * self.tau**2 - revealed
        if revealed < 0 or not 0 <= value < 1 << (DIGIT_BITS * limbs):
            # Its digits would be those of another number.
            raise UnusableInput("the revealed variance does not lie between 0 and what tau allows")
        digits = np.array([(value >> (DIGIT_BITS * i)) & ((1 << DIGIT_BITS) - 1) for i in range(limbs)])
        self.net.circuit.publics.append(PublicTensor(self.slack.tensor, 0, digits.astype(np.int64)))


class LogRatios(Score):
    """y_t = ln(s_t^2/L_t + eps)."""

    def __init__(self, net: Net, head: Softmax, size: StepSize, eps: Fraction, statistic: Statistic) -> None:
        super().__init__(net, statistic)
        domain = self.domain
        self.con = con = domain.constraint("score/ratios")
        # s^2/L + eps = (N / Lk) / scale with N = c1 n + c2 Lk, Lk = 4^k L
        rho2 = size.rho * size.rho
        ratio = rho2 / (256 * net.terms)  # s^2/L = ratio n / Lk
        common = ratio.denominator * eps.denominator // gcd(ratio.denominator, eps.denominator)
        c1, c2 = int(ratio * common), int(eps * common)
        divisor = gcd(c1, c2)
        self.c1, self.c2, self.scale = c1 // divisor, c2 // divisor, Fraction(common, divisor)
        bits = max(self.c1 << (22 * NORM_LIMBS), self.c2 << (22 * SCALED_LOSS_LIMBS)).bit_length() + 1
        limb_count = -(-bits // DIGIT_BITS)
        self.lk, self.top = self._wire("scaled-loss", SCALED_LOSS_LIMBS), self._wire("numerator", limb_count)
        loss = View(head.loss.tensor, (ONCE, net.step_axis()))
        limbs = self._scaled(head, tuple(4**k for k in range(MAX_SCALE + 1)), loss)
        self.domain.zero(con, "scaled-loss", limbs.add_value(self.lk, -1))
        limbs = Limbs().add_value(self.top, -1).add_multiple(size.n, self.c1).add_multiple(self.lk, self.c2)
        self.domain.zero(con, "numerator", limbs)
        self.ln_top = Logarithm(con, domain, limb_forms(self.top), DIGIT_BITS * limb_count - 1, "score/ln-numerator")
        self.ln_loss = Logarithm(con, domain, limb_forms(self.lk), DIGIT_BITS * SCALED_LOSS_LIMBS - 1, "score/ln-loss")
        self.y = domain.wire("score/y", LOG_RATIO)
        self.y_rem = domain.wire("score/y.remainder", (Digit(U22, 0), Digit(unsigned(2), 22)))
        limbs = Limbs().add_value(self.y, -1, HEAD_BITS - 32).add_value(self.y_rem, -1)
        self.ln_top.value.add_to(limbs)
        self.ln_loss.value.add_to(limbs, -1)
        limbs.add_const((1 << (HEAD_BITS - 33)) - ln_scaled(self.scale.numerator, self.scale.denominator))
        self.domain.zero(con, "y", limbs)
        self._declare_statistic()


class Sharpness(Score):
    """y_t = floor(2^48 s_t): a square root, by two slacks."""

    def __init__(self, net: Net, head: Softmax, size: StepSize, eps: Fraction, statistic: Statistic) -> None:
        """eps: of log ratios."""
        super().__init__(net, statistic)
        self.con = con = self.domain.constraint("score/roots")
        self.factors = tuple(4 ** (MAX_SCALE - k) for k in range(MAX_SCALE + 1))
        self.above = size.rho.numerator**2
        self.below = (size.rho.denominator * net.terms) ** 2 << 2 * (MAX_SCALE + FRACTION_BITS - SHARPNESS_BITS)
        self.norm = self._wire("scaled-norm", SCALED_NORM_LIMBS)
        self.y = self.domain.wire("score/y", SHARPNESS)
        self.yy = self._wire("y2", SHARPNESS_SQUARE_LIMBS)
        self.low, self.high = self._wire("low", SHARPNESS_SLACK_LIMBS), self._wire("high", SHARPNESS_SLACK_LIMBS)
        self.domain.zero(con, "scaled-norm", self._scaled(head, self.factors, size.n).add_value(self.norm, -1))
        y = limb_forms(self.y)
        self.domain.zero(con, "y2", Limbs().add_product(y, y).add_value(self.yy, -1))
        lower = Limbs().add_multiple(self.norm, self.above).add_value(self.low, -1)
        self.domain.zero(con, "low", lower.add_multiple(self.yy, -self.below))
        upper = Limbs().add_const(self.below - 1).add_value(self.high, -1).add_multiple(self.norm, -self.above)
        self.domain.zero(con, "high", upper.add_multiple(self.yy, self.below).add_multiple(self.y, 2 * self.below))
        self._declare_statistic()
