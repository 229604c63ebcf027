"""From exact norms and losses to the score: step size q, log ratios y_t, and the threshold.

Per step, with n = sum E^2 (exact) and rho = a / b:

    q = floor(rho 2^40 / (sqrt(n) / 2^32)):   b^2 q^2 n <= a^2 2^144 < b^2 (q + 1)^2 n,   q < 2^60 - 2^43 - 2^21,
    s_t^2 / L_t = rho^2 n 2^56 / (2^64 4^k B^2 L / B),
    y_t = floor((ln N - ln (4^k L) + c + 2^23) / 2^24) in Q32, where N and c make N / (4^k L) e^c = s_t^2/L_t + eps,
    T^2 tau^2 - (T sum y^2 - (sum y)^2) >= 0 over the integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd

import numpy as np

from circuits.language.constraints import DomainAxis, PublicTensor
from circuits.language.forms import View
from circuits.language.sources import ONCE, Same, Sum
from circuits.language.tensors import B22, DIGIT_BITS, U22, Digit, balanced, radix, unsigned
from circuits.language.wide import CarryStep, Domain, Limbs, assert_zero, limb_forms
from zkcert.errors import UnusableInput

from ..net import Net
from ..probe import Parameter
from .constants import HEAD_BITS, ln_scaled
from .exponential import table_limbs
from .logarithm import Logarithm
from .softmax import MAX_SCALE, Softmax

Q_DIGITS = radix(B22, B22, unsigned(16))  # balanced limbs keep the carries of q V small
Q_LIMIT = (1 << 60) - (1 << 43) - (1 << 21)  # sqrt(n) of 2^12 rho: a gradient of rounding errors
Q_SQUARE_LIMBS = 6
LOG_RATIO = radix(B22, balanced(18))  # |y| < 2^39 / 2^32 = 128 nats
NORM_LIMBS = 5
SCALED_LOSS_LIMBS = 6
SLACK_LIMBS = 5


def charged_error(classes: int) -> int:
    """Bound on |y_fixed - y_real| in units of 2^-32, given the network's fixed-point logits and gradients.

    Derived in docs/spec/semantics.md; the population deviation moves by no more than this.
    """
    return 2048 * (classes + 2)


def tau_units(tau: Fraction, classes: int) -> int:
    """The integer threshold compared with the score, Q32: tau less the charged error. Negative: tau is too small."""
    return (tau.numerator << 32) // tau.denominator - charged_error(classes)


class StepSize:
    """n and q of every step. Declared before the parameters' perturbation, which reads `self.q`."""

    def __init__(self, net: Net, rho: Fraction) -> None:
        self.net, self.rho = net, rho
        self.domain = Domain((DomainAxis("step", net.steps),))
        self.q = self.domain.wire(net.circuit, "step-size/q", Q_DIGITS)

    def declare(self, parameters: Sequence[Parameter]) -> None:
        net, domain, circuit = self.net, self.domain, self.net.circuit
        a, b = self.rho.numerator, self.rho.denominator
        con = circuit.constraint("step-size", domain.axes)

        def wire(label: str, count: int) -> View:
            return domain.wire(circuit, f"step-size/{label}", radix(*[U22] * count))

        self.n = wire("n", NORM_LIMBS)
        limbs = Limbs().add_value(self.n, -1)
        for p in parameters:
            for view, power in zip(p.squares, (0, DIGIT_BITS + 1, 2 * DIGIT_BITS), strict=True):
                sums = tuple(Sum(size) for size in view.tensor.shape)
                limbs.add_value(View(view.tensor, (Same("step", net.steps), *sums)), 1, power)
        self.n_carries = assert_zero(circuit, con, domain, "n", limbs)
        # X1 = q^2 n and X2 = (2 q + 1) n, then both inequalities by non-negative slacks
        self.qq, self.x1, self.x2 = wire("q2", Q_SQUARE_LIMBS), wire("q2n", 7), wire("2qn", 7)
        self.low, self.high = wire("low", 9), wire("high", 9)
        q, n = limb_forms(self.q), limb_forms(self.n)
        self.carries: list[list[CarryStep]] = []

        def zero(label: str, limbs: Limbs) -> None:
            self.carries.append(assert_zero(circuit, con, domain, label, limbs))

        zero("q2", Limbs().add_product(q, q).add_value(self.qq, -1))
        zero("q2n", Limbs().add_product(limb_forms(self.qq), n).add_value(self.x1, -1))
        zero("2qn", Limbs().add_product(q, n, 2).add_value(self.n).add_value(self.x2, -1))
        lower = Limbs().add_const(a * a << 144).add_value(self.low, -1)
        lower.add_multiple(self.x1, -(b * b))
        zero("low", lower)
        upper = Limbs().add_const(-(a * a << 144) - 1).add_value(self.high, -1)
        upper.add_multiple(self.x1, b * b).add_multiple(self.x2, b * b)
        zero("high", upper)


class Score:
    """Log ratios and the threshold."""

    def __init__(self, net: Net, head: Softmax, size: StepSize, eps: Fraction) -> None:
        self.net, self.head, self.size = net, head, size
        circuit, steps, terms = net.circuit, net.steps, net.terms
        step = DomainAxis("step", steps)
        self.domain = domain = Domain((step,))
        con = circuit.constraint("score/ratios", domain.axes)
        # s^2/L + eps = (N / Lk) / scale with N = c1 n + c2 Lk, Lk = 4^k L
        rho2 = size.rho * size.rho
        ratio = rho2 / (256 * terms)  # s^2/L = ratio n / Lk
        common = ratio.denominator * eps.denominator // gcd(ratio.denominator, eps.denominator)
        c1, c2 = int(ratio * common), int(eps * common)
        divisor = gcd(c1, c2)
        self.c1, self.c2, self.scale = c1 // divisor, c2 // divisor, Fraction(common, divisor)
        bits = max(self.c1 << (22 * NORM_LIMBS), self.c2 << (22 * SCALED_LOSS_LIMBS)).bit_length() + 1
        limb_count = -(-bits // DIGIT_BITS)

        def wire(label: str, count: int) -> View:
            return domain.wire(circuit, f"score/{label}", radix(*[U22] * count))

        self.lk, self.top = wire("scaled-loss", SCALED_LOSS_LIMBS), wire("numerator", limb_count)
        evens = net.over_steps("pass", 0)
        loss = View(head.loss.tensor, (ONCE, Same("step", steps)))
        fourth = [head.scale_form(limb, evens) for limb in table_limbs(tuple(4**k for k in range(MAX_SCALE + 1)))]
        self.carries: list[list[CarryStep]] = []

        def zero(label: str, limbs: Limbs) -> None:
            self.carries.append(assert_zero(circuit, con, domain, label, limbs))

        zero("scaled-loss", Limbs().add_product(fourth, limb_forms(loss)).add_value(self.lk, -1))
        limbs = Limbs().add_value(self.top, -1).add_multiple(size.n, self.c1).add_multiple(self.lk, self.c2)
        zero("numerator", limbs)
        self.ln_top = Logarithm(
            circuit, con, domain, limb_forms(self.top), DIGIT_BITS * limb_count - 1, "score/ln-numerator"
        )
        self.ln_loss = Logarithm(
            circuit, con, domain, limb_forms(self.lk), DIGIT_BITS * SCALED_LOSS_LIMBS - 1, "score/ln-loss"
        )
        self.y = domain.wire(circuit, "score/y", LOG_RATIO)
        self.y_rem = domain.wire(circuit, "score/y.remainder", (Digit(U22, 0), Digit(unsigned(2), 22)))
        limbs = Limbs().add_value(self.y, -1, HEAD_BITS - 32).add_value(self.y_rem, -1)
        self.ln_top.value.add_to(limbs)
        self.ln_loss.value.add_to(limbs, -1)
        limbs.add_const((1 << (HEAD_BITS - 33)) - ln_scaled(self.scale.numerator, self.scale.denominator))
        zero("y", limbs)

        # -- deviation
        self.whole = Domain(())
        self.sum_y = self.whole.wire(circuit, "score/sum", radix(B22, B22, balanced(8)))
        self.sum_yy = self.whole.wire(circuit, "score/squares", radix(*[U22] * SLACK_LIMBS))
        self.slack = self.whole.wire(circuit, "score/slack", radix(*[U22] * SLACK_LIMBS))
        con = circuit.constraint("score/squares", (), (step,))
        y = limb_forms(self.y)
        self.yy_carries = assert_zero(
            circuit, con, self.whole, "squares", Limbs().add_product(y, y).add_value(self.sum_yy, -1)
        )
        self.yy_con = con
        self.deviation = circuit.constraint("score/threshold", ())
        total = View(self.y.tensor, (ONCE, Sum(steps)))
        self.deviation.add("sum", total.whole() - self.sum_y.whole())

    def close(self, tau: int) -> None:
        """Add the threshold `tau` (see `tau_units`)."""
        steps, circuit = self.net.steps, self.net.circuit
        s = limb_forms(self.sum_y)
        limbs = Limbs().add_const((steps * tau) ** 2).add_value(self.slack, -1)
        limbs.add_value(self.sum_yy, -steps).add_product(s, s)
        self.slack_carries = assert_zero(circuit, self.deviation, self.whole, "threshold", limbs)
        self.tau = tau

    def reveal(self, revealed: int) -> None:
        """Make T^2 Var, in units of 2^-64, public; after `close`."""
        value = (self.net.steps * self.tau) ** 2 - revealed
        if revealed < 0 or not 0 <= value < 1 << (DIGIT_BITS * SLACK_LIMBS):
            # Its digits would be those of another number.
            raise UnusableInput("the revealed variance does not lie between 0 and T^2 tau^2")
        digits = np.array([(value >> (DIGIT_BITS * i)) & ((1 << DIGIT_BITS) - 1) for i in range(SLACK_LIMBS)])
        self.net.circuit.publics.append(PublicTensor(self.slack.tensor, 0, digits.astype(np.int64)))
