"""The sharpness probe around the network: perturbation, norm, update (Algorithm 1 of arXiv 2606.25004).

Per parameter tensor and step t, with G the exact gradient sum at w_t (loss-scaled by 2^k_t) in Q31.32:

    E = rescale(w G),  V = rescale(w E)       (asam-all; for sam both are G itself)
    E = rescale((|w| + eta) G),  V likewise   (asam-shifted, and asam-samsung for what is called a weight, else as sam)
    n = sum over all parameters of E^2        (an exact integer)
    w_t + d = w_t + floor((q V + 2^39) / 2^40)
    w_{t+1} = w_t - floor((acc + 2^31 D) / (2^32 D))     with acc the second gradient's accumulator, D = B / lr

q is the head's fixed-point rho / sqrt(n). What is committed is w_t + d and w_{t+1} themselves. |w| = m + b with a bit b
and a magnitude m as in a ReLU: w + m = b (2 m + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, prod

from circuits.language.combination import Term, value_terms
from circuits.language.constraints import Constraint, product
from circuits.language.forms import Form, View
from circuits.language.sources import ONCE, Axis, Map
from circuits.language.tensors import BIT, U22, Digit, Range, Tensor, radix, unsigned
from circuits.language.tensors import balanced as balanced_range
from circuits.language.wide import Domain, Limbs, limb_forms
from zkcert.errors import UnusableInput

from .net import BALANCED_REMAINDER, FRACTION_BITS, VALUE, Contraction, Gradient, Net, Sums, first_steps, pass_of_step

SQUARE = radix(U22, U22, unsigned(15))  # sums of at most 2^17 products of digits: below 2^59
BALANCED_STEP = (Digit(U22, 0), Digit(balanced_range(18), 22))  # [-2^39, 2^39)
SIGNED_SQUARE = radix(U22, U22, balanced_range(16))
STEP_BITS = 40
MAX_TERMS = 1 << 17
WHOLE_DIVISOR_BITS = 26  # of a divisor that a digit is multiplied by; a larger one is split into limbs


def update_remainder(net: Net, divisor: int, *, balanced: bool = False) -> tuple[Digit, ...]:
    """Digits of [0, 2^32 D), or of [-2^31 D, 2^31 D): two where 2^10 D fits a table that is worth its entries, else
    three."""
    updates = net.scaled_entries * (net.steps - 1)
    size = divisor << 10
    if size <= U22.size and updates >= 2 * size:
        return Digit(U22, 0), Digit(Range(size, -(size // 2) if balanced else 0), 22)
    twos, odd = halved(divisor)
    middle, high = unsigned(10 + twos), Range(odd, -(odd // 2) if balanced else 0)
    if balanced and odd % 2:
        middle = balanced_range(10 + twos)
    return Digit(U22, 0), Digit(middle, 22), Digit(high, 32 + twos)


def halved(divisor: int) -> tuple[int, int]:
    """(i, D / 2^i) for the least i for which a table of digits takes that; UnusableInput if no i up to 8 does."""
    for i in range(9):
        if divisor >> i <= U22.size and divisor % (1 << i) == 0:
            return i, divisor >> i
    raise UnusableInput(
        f"batch size / lr, times the positions of a sample, is {divisor}, for which no remainder has digits: take a "
        "larger lr, batch size / 2^k, that makes it at most 2^30"
    )


def shift_of(variant: str, eta: Fraction | None, name: str) -> int | None:
    """H where T_w is diag(|w| + H / 2^32) for the parameter of that name, 0 for diag(|w|); None where it is 1."""
    if variant == "sam" or (variant == "asam-samsung" and "weight" not in name):
        return None
    return 0 if eta is None else floor(eta * (1 << FRACTION_BITS) + Fraction(1, 2))


class Parameter:
    """All per-step tensors of one parameter; shift: see `shift_of`."""

    def __init__(self, net: Net, g: Gradient, divisor: int, q: Tensor, shift: int | None) -> None:
        self.net, self.g, self.divisor, self.shift = net, g, divisor, shift
        self.weight = net.weights[g.name]
        self.shape = self.weight.shape
        steps = net.steps
        self.grad = self._per_step("gradient", VALUE, steps)
        self._declare_gradient()
        if shift:
            self._declare_magnitude()
        if shift is not None:
            self.e, self.v = self._per_step("E", VALUE, steps), self._per_step("V", VALUE, steps - 1)
            self.run_e = self._rescaled_product("E", self.grad, self.e, steps)
            self.run_v = self._rescaled_product("V", self.e, self.v, steps - 1)
        else:
            self.e = self.v = self.grad
        self._declare_squares()
        self._declare_perturbation(q)
        self._declare_update()

    # -- tensors of the first `count` steps

    def _per_step(self, label: str, digits: tuple[Digit, ...], count: int) -> Tensor:
        return self.net.circuit.tensor(f"{label}/{self.g.name}", count, self.shape, digits)

    def _on(self, t: Tensor, count: int) -> View:
        return View(t, (first_steps(count, t.unroll), *self.g.axes))

    def _weights(self, count: int, offset: int) -> View:
        """The weights of pass 2 t + offset."""
        return View(self.weight, (pass_of_step(count, offset, self.net.passes), *self.g.axes))

    # -- declarations

    def _constraint(self, label: str, count: int, summed: tuple[Axis, ...] = ()) -> Constraint:
        return self.net.circuit.constraint(f"{label}/{self.g.name}", (Axis("step", count), *self.g.axes), summed)

    def _declare_gradient(self) -> None:
        net, g, steps = self.net, self.g, self.net.steps
        out = self._on(self.grad, steps)
        rest = value_terms(out, -1 << FRACTION_BITS)
        self.run_gradient = self._contracted("gradient", steps, 0, BALANCED_REMAINDER, rest)
        if self.run_gradient is not None:
            return
        con = self._constraint("gradient", steps, g.summed)
        limbs = g.limbs(lambda per: net.over_steps(per, 0))
        if g.scaled:
            self.run_gradient = net.rescaled(con, limb_forms(out), limbs, "g")
        else:
            con.add("sum", limbs.parts[0] - out.whole())

    def _declare_magnitude(self) -> None:
        steps = self.net.steps
        self.sign = self._per_step("sign", radix(BIT), steps)
        self.magnitude = self._per_step("magnitude", radix(U22, unsigned(18)), steps)
        b, m = self._on(self.sign, steps).whole(), self._on(self.magnitude, steps).whole()
        self._constraint("sign", steps).add("sign", product(b, 2 * m) + b - m - self._weights(steps, 0).whole())

    def _scale(self, count: int) -> list[Form]:
        """Limbs of w, or of |w| where that is shifted."""
        if not self.shift:
            return limb_forms(self._weights(count, 0))
        low, high = limb_forms(self._on(self.magnitude, count))
        return [low + self._on(self.sign, count).whole(), high]

    def _rescaled_product(self, label: str, a: Tensor, out: Tensor, count: int) -> Contraction:
        limbs = Limbs().add_product(self._scale(count), limb_forms(self._on(a, count)))
        limbs.add_multiple(self._on(a, count), self.shift or 0)
        out_limbs = limb_forms(self._on(out, count))
        return self.net.rescaled(self._constraint(label, count), out_limbs, limbs, label.lower())

    def _contracted(
        self, label: str, count: int, parity: int, digits: tuple[Digit, ...], rest: Sequence[Term]
    ) -> Contraction | None:
        """The gradient of pass 2 t + parity of the first `count` steps as a congruence, if that is worth it."""
        net, g = self.net, self.g
        if g.operands is None:
            return None
        operands, axes = g.operands(lambda per: net.over_steps(per, parity)), (Axis("step", count), *g.axes)
        return net.contracted(Sums(f"{label}/{g.name}", axes, g.summed, operands), digits, rest)

    def _declare_squares(self) -> None:
        axes, step = self.g.axes, self.net.step_axis()
        out, summed = (axes[:1], axes[1:]) if len(axes) > 1 else ((), axes)
        terms = prod(a.size for a in summed)
        if terms > MAX_TERMS:
            raise UnusableInput(f"{self.g.name}: {terms} squares in one sum, at most {MAX_TERMS}")
        domain = Domain(self.net.circuit, (step, *out), unrolled=True)
        con = domain.constraint(f"squares/{self.g.name}", summed)
        e0, e1 = limb_forms(self._on(self.e, step.size))
        self.squares = []
        for label, a, b, digits in (("00", e0, e0, SQUARE), ("01", e0, e1, SIGNED_SQUARE), ("11", e1, e1, SQUARE)):
            self.squares.append(domain.wire(f"squares/{self.g.name}.{label}", digits))
            con.add(label, product(a, b) - self.squares[-1].whole())

    def _declare_perturbation(self, q: Tensor) -> None:
        net, name, count = self.net, f"perturbation/{self.g.name}", self.net.steps - 1
        # q is a head tensor: one column holding all steps
        qv = View(q, (ONCE, Map("step", tuple(range(count)), q.shape[0])))
        old, new = self._weights(count, 0), self._weights(count, 1)
        terms = value_terms(new, -1 << STEP_BITS) + value_terms(old, 1 << STEP_BITS)
        factors, axes = (limb_forms(qv), limb_forms(self._on(self.v, count))), (Axis("step", count), *self.g.axes)
        combined = net.contracted(Sums(name, axes, (), factors), BALANCED_STEP, terms)
        if combined is not None:
            self.run_perturbation = combined
            return
        difference = Limbs().add_value(new, -1, STEP_BITS).add_value(old, 1, STEP_BITS)
        con, digits = self._constraint("perturbation", count), (Digit(U22, 0), Digit(unsigned(18), 22))
        limbs, rest = Limbs().add_product(*factors), net.remainder(con, f"{name}.remainder", digits)
        self.run_perturbation = net.divided(con, limbs, 1 << STEP_BITS - 1, rest, difference, "d")

    def _declare_update(self) -> None:
        net, g, count, d = self.net, self.g, self.net.steps - 1, self.divisor
        old, new = self._weights(count, 0), self._weights(count, 2)
        terms = value_terms(new, d << FRACTION_BITS) + value_terms(old, -d << FRACTION_BITS)
        combined = self._contracted("update", count, 1, update_remainder(net, d, balanced=True), terms)
        if combined is not None:
            self.run_update = combined
            return
        bits = FRACTION_BITS if g.scaled else 0
        twos, odd = halved(d)
        small = (*([Digit(unsigned(twos), 0)] if twos else []), Digit(Range(odd), twos))
        digits = update_remainder(net, d) if g.scaled else small
        difference = Limbs()
        add = difference.add_multiple if d >> WHOLE_DIVISOR_BITS else difference.add_value
        add(new, d, bits)
        add(old, -d, bits)
        con, limbs = self._constraint("update", count, g.summed), g.limbs(lambda per: net.over_steps(per, 1))
        rest = net.remainder(con, f"{con.name}.remainder", digits)
        self.run_update = net.divided(con, limbs, (d << bits) // 2, rest, difference, "w")
