"""Cross-entropy head: softmax shifted by the proved maximum, deltas, loss scale 2^k, batch losses.

All probabilities have 56 fractional bits. With e_j = exp(-(max z - z_j)), S = sum_j e_j:

    p_j = floor(2^56 e_j / S),   delta_j = p_j for wrong classes, delta_y = -D,   D = sum over wrong classes of p_j,
    M = max over the batch of D;  k is the one with 2^(55-k) <= M < 2^(56-k), and 0 when M >= 2^55 (first passes only),
    dz_j = floor((delta_j 2^k + 2^23) / 2^24)   in Q32,
    loss_b = ln S_b + 2^24 (max z - z_y) - 56 ln 2 (2^56 units),   L = sum over the batch.

Of a language model each position l of a sample has a row of its own: then "batch" is all positions of all samples.
"""

from __future__ import annotations

from circuits.language.constraints import expr, product
from circuits.language.forms import Form, View
from circuits.language.sources import ONCE, Axis, Source, Sum
from circuits.language.tensors import BIT, DIGIT_BITS, U22, Digit, Tensor, ceil_log2, radix, unsigned
from circuits.language.wide import Domain, Limbs, limb_forms

from ..net import VALUE, Net
from ..tokens import behind
from ..value import Value
from .constants import HEAD_BITS, ln_scaled
from .exponential import PROBABILITY, Exponential, onehot_view, pick
from .logarithm import Logarithm

MAX_SCALE = 31  # its one-hot table has a power of two of entries
MAX_CLASSES = 1023
MIN_LOSS = 1 << (HEAD_BITS - 32)  # smallest mean batch loss, 2^-32: it has 24 significant bits
LOSS = radix(U22, U22, U22, unsigned(16))


class Softmax:
    """Declares the head for all passes."""

    def __init__(self, net: Net, logits: Value, labels: Tensor) -> None:
        """logits: per pass, (batch, classes), with an image's single position behind them if it was never left; labels:
        per step, one-hot (batch, classes). Of tokens: (batch, classes, L) and (batch, classes, L + 1)."""
        self.net, self.logits, self.labels = net, logits, labels
        circuit = net.circuit
        self.classes = classes = logits.shape[1]
        p, step, b, j = net.pass_axis(), net.step_axis(), net.batch_axis(), Axis("j", classes)
        self.spots = spots = tuple(Axis("l", size - 1) for size in labels.shape[2:])
        every = (Sum(net.batch), *(Sum(a.size) for a in spots))
        full, rows = Domain(circuit, (p, b, *spots, j)), Domain(circuit, (p, b, *spots))
        firsts, per_step = Domain(circuit, (step, b, *spots)), Domain(circuit, (step,))
        self.con, self.row = con, row = full.constraint("softmax"), rows.constraint("softmax/rows")
        total_bits = min(DIGIT_BITS, 13 + ceil_log2(classes))  # of the top digit of S

        # -- shift by the maximum
        position: tuple[Source, ...] = spots or (ONCE,) * (len(logits.shape) - 2)
        z = logits.whole(net.over_passes, b, j, *position)
        self.top = rows.wire("softmax/max", VALUE)
        self.is_top = full.wire("softmax/is-max", radix(BIT))
        self.x = full.wire("softmax/x", radix(U22, U22))
        con.add("shift", self.x.whole() + z - self.top.whole())
        con.add("attained", product(self.is_top.whole(), self.x.whole()))
        row.add("one-max", expr(self._over_classes(self.is_top).whole()) - 1)
        self.exp = Exponential(con, full, self.x, "softmax/exp")
        e = self.exp.y

        # -- normalisation
        total_digits = radix(U22, U22, unsigned(total_bits))
        self.total = rows.wire("softmax/total", total_digits)
        limbs = Limbs().add_value(self._over_classes(e)).add_value(self.total, -1)
        rows.zero(row, "total", limbs)
        self.p = full.wire("softmax/p", PROBABILITY)
        self.rem = full.wire("softmax/p.remainder", total_digits)
        self.slack = full.wire("softmax/p.slack", total_digits)
        limbs = Limbs().add_value(e, 1, HEAD_BITS).add_value(self.rem, -1)
        limbs.add_product(limb_forms(self.p), limb_forms(self.total), -1)
        full.zero(con, "p", limbs)
        limbs = Limbs().add_value(self.rem).add_value(self.slack).add_const(1).add_value(self.total, -1)
        full.zero(con, "p-below", limbs)

        # -- deltas
        label = (b, j, *(behind(a.size, a.name) for a in spots))
        o = View(labels, (net.over_passes("step"), *label)).whole()
        self.wrong = full.wire("softmax/wrong", PROBABILITY)
        self.missing = rows.wire("softmax/missing", PROBABILITY)
        self.true_delta = full.wire("softmax/true-delta", PROBABILITY)
        for d in range(3):
            con.add(f"wrong{d}", expr(self.p.digit(d) - self.wrong.digit(d)) - product(o, self.p.digit(d)))
            con.add(f"true{d}", product(o, self.missing.digit(d)) - self.true_delta.digit(d))
        limbs = Limbs().add_value(self._over_classes(self.wrong)).add_value(self.missing, -1)
        rows.zero(row, "missing", limbs)

        # -- loss scale
        first = (net.over_steps("pass", 0), b, *spots)
        self.largest = per_step.wire("scale/largest", PROBABILITY)
        self.below = firsts.wire("scale/below", PROBABILITY)
        self.is_largest = firsts.wire("scale/is-largest", radix(BIT))
        self.scale = onehot_view(Domain(circuit, (p,)), "scale/k", 1, MAX_SCALE + 1)
        con2 = firsts.constraint("scale/samples")
        largest = View(self.largest.tensor, (ONCE, step))
        missing = View(self.missing.tensor, (ONCE, *first))
        con2.add("below", self.below.whole() + missing.whole() - largest.whole())
        con2.add("attained", product(self.is_largest.whole(), self.below.whole()))
        con1 = per_step.constraint("scale")
        con1.add("one-largest", expr(View(self.is_largest.tensor, (ONCE, step, *every)).whole()) - 1)
        self.upper = per_step.wire("scale/upper", PROBABILITY)
        self.lower = per_step.wire("scale/lower", PROBABILITY)
        above = tuple((1 << (HEAD_BITS - k)) if k else 1 << (HEAD_BITS + 1) for k in range(MAX_SCALE + 1))
        least = tuple(1 << (HEAD_BITS - 1 - k) for k in range(MAX_SCALE + 1))
        con1.add("upper", expr(self.upper.whole() + largest.whole() - self.scale_form(above, first[0])) + 1)
        con1.add("lower", self.lower.whole() + self.scale_form(least, first[0]) - largest.whole())
        con0 = circuit.constraint("scale/one", (p,))
        con0.add("one", expr(pick(self.scale, 0, (1,) * (MAX_SCALE + 1))) - 1)
        con0 = circuit.constraint("scale/second-passes", (Axis("step", net.steps - 1),))
        con0.add("unscaled", expr(self.scale_form((1,) + (0,) * MAX_SCALE, net.over_steps("pass", 1))) - 1)

        # -- deltas in Q32
        self.dz = net.activation("softmax/dz", logits.shape)
        dz = View(self.dz.tensor, (p, b, j, *position))
        self.dz_rem = full.wire("softmax/dz.remainder", (Digit(U22, 0), Digit(unsigned(2), 22)))
        power = self.scale_form(tuple(1 << k for k in range(MAX_SCALE + 1)), p)
        delta = [self.wrong.digit(d) - self.true_delta.digit(d) for d in range(3)]
        limbs = Limbs().add_product([power], delta).add_const(1 << 23)
        limbs.add_value(dz, -1, 24).add_value(self.dz_rem, -1)
        full.zero(con, "dz", limbs)

        # -- losses of first passes
        con = firsts.constraint("loss/samples")
        s = limb_forms(View(self.total.tensor, (ONCE, *first)))
        self.log = Logarithm(con, firsts, s, 66 - HEAD_BITS - 1, "loss/ln")
        con = firsts.constraint("loss/true-logit", (j,))
        self.x_true = firsts.wire("loss/x-true", radix(U22, U22))
        own = View(labels, (step, *label)).whole()
        x = View(self.x.tensor, (ONCE, *first, j))
        for d in range(2):
            con.add(f"x{d}", product(own, x.digit(d)) - self.x_true.digit(d))
        self.loss_con = con = per_step.constraint("loss")
        self.loss = per_step.wire("loss/total", LOSS)
        self.loss_slack = per_step.wire("loss/above-minimum", LOSS)
        limbs = Limbs().add_value(self.loss, -1)
        summed = View(self.x_true.tensor, (ONCE, step, *every))
        limbs.add_value(summed, 1, HEAD_BITS - 32)
        value = self.log.value
        total_const = net.terms * (value.const - HEAD_BITS * ln_scaled(2))
        for axis in (b, *spots):
            value = value.summed(axis.name, axis.size, total_const)
        value.add_to(limbs)
        per_step.zero(con, "sum", limbs)
        limbs = Limbs().add_value(self.loss).add_value(self.loss_slack, -1).add_const(-net.terms * MIN_LOSS)
        per_step.zero(con, "minimum", limbs)

    def _over_classes(self, wire: View) -> View:
        return View(wire.tensor, (*wire.sources[:-1], Sum(self.classes)))

    def scale_form(self, weights: tuple[int, ...], source: Source) -> Form:
        return View(self.scale.tensor, (ONCE, source, Sum(MAX_SCALE + 1, weights))).whole()
