"""ln of a wide positive integer, with 56 fractional bits.

The integer v (n limbs of 22 bits) is shifted left by h = 22 a + b bits until its top limb reaches 2^21: M = v 2^h, one
h only. With m the top three limbs of M, so that M / 2^(22 n) lies in [1/2, 1) and m / 2^66 is its truncation, four
stages multiply by tabulated factors and bring it to [1, 1 + 2^-16):

    w_1 = floor(m F_0[c_0] / 2^66),      c_0 = the four bits of m below its leading one,
    w_{i+1} = floor(w_i F_i[c_i] / 2^56),  c_i = floor((w_i - 2^56) / 2^(52 - 4 i)),
    ln v = z - a_2 + a_3 + sum_i L_i[c_i] + (22 n - 1 - h) ln 2,   z = w_4 - 2^56,
    a_2 = floor(z^2 / 2^57),  a_3 = floor(2 a_2 z / (3 2^56)).
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.language.constraints import Constraint, expr, product
from circuits.language.forms import ZERO, Form, View
from circuits.language.sources import Axis, Sum
from circuits.language.tensors import DIGIT_BITS, U22, Digit, Range, radix, unsigned
from circuits.language.wide import Domain, Limbs, limb_forms

from .constants import HEAD_BITS, LOG_STAGES, LOG_TABLE, ONE, ln_scaled, log_factors, log_table
from .exponential import REMAINDER_56, multiply_rounded, one_of, pick, table_limbs

MANTISSA_BITS = 66
TOP_REST = 17


@dataclass(frozen=True)
class LogValue:
    """ln v = sum_parts form * 2^power - shift ln 2 + const, with 56 fractional bits; `shift` is a linear form."""

    parts: tuple[tuple[Form, int], ...]
    shift: Form
    const: int

    def add_to(self, limbs: Limbs, coef: int = 1) -> None:
        for form, power in self.parts:
            limbs.add(form * coef, power)
        for k, (limb,) in enumerate(table_limbs((ln_scaled(2),))):
            limbs.add(self.shift * (-coef * limb), DIGIT_BITS * k)
        limbs.add_const(coef * self.const)

    def summed(self, axis: str, size: int, const: int) -> LogValue:
        """The sum over a domain axis, with another constant."""

        def over(form: Form) -> Form:
            terms = []
            for v, d, c in form.terms:
                sources = tuple(Sum(size) if isinstance(s, Axis) and s.name == axis else s for s in v.sources)
                terms.append((View(v.tensor, sources), d, c))
            return Form(tuple(terms))

        return LogValue(tuple((over(f), p) for f, p in self.parts), over(self.shift), const)


class Logarithm:
    """Constraints of ln over a domain; `v` are the limbs (forms) of a positive integer."""

    def __init__(self, con: Constraint, domain: Domain, v: list[Form], max_shift: int, name: str) -> None:
        self.con, self.count = con, len(v)
        n, (self.max_limbs, rest) = len(v), divmod(max_shift, DIGIT_BITS)
        self.bit_choices = DIGIT_BITS if self.max_limbs else rest + 1
        # shift by whole limbs: nothing may fall off the top
        moved = v
        self.limb_shift: View | None = None
        shift = ZERO
        if self.max_limbs:
            choices = self.max_limbs + 1
            self.limb_shift = one_of(con, "limb-shift", domain, f"{name}/limb-shift", choices)
            bits = [pick(self.limb_shift, 0, tuple(int(i == a) for i in range(choices))) for a in range(choices)]
            lost = expr(0)
            self.moved = domain.wire(f"{name}/moved", radix(*[U22] * n))
            for l in range(n):
                e = expr(-self.moved.digit(l))
                for a in range(min(l, self.max_limbs) + 1):
                    e = e + product(bits[a], v[l - a])
                con.add(f"moved{l}", e)
                for a in range(n - l, choices):
                    lost = lost + product(bits[a], v[l])
            con.add("nothing-lost", lost)
            moved = limb_forms(self.moved)
            shift = pick(self.limb_shift, 0, tuple(DIGIT_BITS * a for a in range(choices)))
        self.bit_shift = one_of(con, "bit-shift", domain, f"{name}/bit-shift", self.bit_choices)
        power = pick(self.bit_shift, 0, tuple(1 << b for b in range(self.bit_choices)))
        shift = shift + pick(self.bit_shift, 0, tuple(range(self.bit_choices)))
        self.normal = domain.wire(f"{name}/normal", radix(*[U22] * n))
        limbs = Limbs().add_product(moved, [power]).add_value(self.normal, -1)
        domain.zero(con, "normal", limbs)

        # the top limb is 2^21 + 2^17 c_0 + rest
        self.choice0 = one_of(con, "c0", domain, f"{name}/c0", LOG_TABLE[0])
        self.top_rest = domain.wire(f"{name}/top-rest", radix(unsigned(TOP_REST)))
        leading = pick(self.choice0, 0, tuple(c << TOP_REST for c in range(16)))
        con.add("top", expr(self.normal.digit(n - 1) - leading - self.top_rest.whole()) - (1 << 21))

        mantissa = [self.normal.digit(n - 3 + i) for i in range(3)]
        self.ws: list[View] = []
        self.rems: list[View] = []
        self.choices = [self.choice0]
        self.rests: list[View] = []
        parts = []
        for i in range(LOG_STAGES):
            choice = self.choices[-1]
            tabulated = table_limbs(log_table(i))
            parts += [(pick(choice, 0, limb), DIGIT_BITS * k) for k, limb in enumerate(tabulated)]
            factor = [pick(choice, 0, limb) for limb in table_limbs(log_factors(i))]
            limbs = Limbs().add_product(mantissa if i == 0 else limb_forms(self.ws[-1]), factor)
            scale, rem = (MANTISSA_BITS, radix(U22, U22, U22)) if i == 0 else (HEAD_BITS, REMAINDER_56)
            w, r = multiply_rounded(con, domain, f"{name}/w{i + 1}", limbs, rem, scale)
            self.ws.append(w)
            self.rems.append(r)
            if i + 1 == LOG_STAGES:
                break
            # w = 2^56 + 2^(48 - 4 i) c + rest
            low = 48 - 4 * i
            choice = one_of(con, f"c{i + 1}", domain, f"{name}/c{i + 1}", LOG_TABLE[i + 1])
            digits = radix(U22, U22, unsigned(low - 44)) if low > 44 else radix(U22, unsigned(low - 22))
            rest_wire = domain.wire(f"{name}/rest{i + 1}", digits)
            units = pick(choice, 0, tuple(c << low for c in range(LOG_TABLE[i + 1])))
            con.add(f"stage{i + 1}", expr(w.whole() - units - rest_wire.whole()) - ONE)
            self.choices.append(choice)
            self.rests.append(rest_wire)
        # z = w_4 - 2^56 < 2^41

        def wire(label: str, *digits: Digit) -> View:
            return domain.wire(f"{name}/{label}", digits)

        self.z = wire("z", *radix(U22, unsigned(19)))
        con.add("z", expr(self.z.whole() - self.ws[-1].whole()) + ONE)
        self.a2, self.r2 = (
            wire("a2", *radix(U22, unsigned(4))),
            wire("a2.remainder", *radix(U22, U22, Range(1 << 13))),
        )
        limbs = Limbs().add_product(limb_forms(self.z), limb_forms(self.z))
        limbs.add_value(self.a2, -1, HEAD_BITS + 1).add_value(self.r2, -1)
        domain.zero(con, "a2", limbs)
        self.a3, self.r3 = (wire("a3", *radix(unsigned(10))), wire("a3.remainder", *radix(U22, U22, Range(3 << 12))))
        limbs = Limbs().add_product(limb_forms(self.a2), limb_forms(self.z), 2)
        limbs.add_value(self.a3, -3, HEAD_BITS).add_value(self.r3, -1)
        domain.zero(con, "a3", limbs)
        parts.append((self.z.whole() - self.a2.whole() + self.a3.whole(), 0))
        self.value = LogValue(tuple(parts), shift, (DIGIT_BITS * n - 1) * ln_scaled(2))
