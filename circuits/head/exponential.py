"""exp(-x) for x >= 0 in Q32, with 56 fractional bits.

x = u + sum_i 2^(18 + 4 i) c_i + 2^38 h with u < 2^18 and c_i < 16. With f = [h > 0] the result is 0 if f, else

    y_0 = 2^56 - 2^24 u + a_2 - a_3,   a_2 = floor((u^2 + 2^8) / 2^9),   a_3 = floor((a_2 u + 3 2^31) / (3 2^32)),
    y_{i+1} = floor((y_i T_i[c_i] + 2^55) / 2^56),   T_i[v] = round(2^56 exp(-v 2^(18 + 4 i - 32))).
"""

from __future__ import annotations

from circuits.language.constraints import Constraint, expr, product
from circuits.language.forms import Form, View
from circuits.language.sources import ONCE, Sum
from circuits.language.tensors import BIT, U22, Digit, Range, radix, unsigned
from circuits.language.wide import Domain, Limbs, limb_forms

from .constants import EXP_CHUNKS, EXP_LOW_BITS, EXP_TOP, HEAD_BITS, ONE, exp_table

PROBABILITY = radix(U22, U22, unsigned(14))  # [0, 2^58)
REMAINDER_56 = (Digit(U22, 0), Digit(U22, 22), Digit(unsigned(12), 44))


def onehot_view(domain: Domain, name: str, unroll: int, size: int) -> View:
    """A tensor (unroll; *domain, size) of bits; read through `pick`."""
    sizes = [a.size for a in domain.axes]
    t = domain.circuit.tensor(name, unroll, (*sizes, size), radix(BIT))
    same = domain.axes
    return View(t, (ONCE if unroll == 1 else Sum(unroll), *same, Sum(size)))


def one_of(con: Constraint, label: str, domain: Domain, name: str, size: int) -> View:
    """`size` bits, of which one is set."""
    made = onehot_view(domain, name, 1, size)
    con.add(label, expr(pick(made, 0, (1,) * size)) - 1)
    return made


def pick(onehot: View, which: int, weights: tuple[int, ...]) -> Form:
    """sum_v weights[v] * bit_v of unrolled index `which`."""
    first = Sum(onehot.tensor.unroll, tuple(int(i == which) for i in range(onehot.tensor.unroll)))
    last = Sum(onehot.tensor.sizes[-1], weights)
    return View(onehot.tensor, (first, *onehot.sources[1:-1], last)).whole()


def table_limbs(table: tuple[int, ...], count: int = 3) -> list[tuple[int, ...]]:
    """22-bit limbs of a table of non-negative integers."""
    return [tuple((v >> (22 * k)) & ((1 << 22) - 1) for v in table) for k in range(count)]


def multiply_rounded(
    con: Constraint, domain: Domain, name: str, limbs: Limbs, rem: tuple[Digit, ...], shift: int
) -> tuple[View, View]:
    """A wire y = floor(limbs / 2^shift) with its remainder."""
    y = domain.wire(f"{name}", PROBABILITY)
    r = domain.wire(f"{name}.remainder", rem)
    limbs.add_value(y, -1, shift).add_value(r, -1)
    domain.zero(con, name.rsplit("/", 1)[-1], limbs)
    return y, r


class Exponential:
    """Constraints of ``y = exp(-x)`` over a domain; `x` has digits U22, U22."""

    def __init__(self, con: Constraint, domain: Domain, x: View, name: str) -> None:
        def wire(label: str, *digits: Range) -> View:
            return domain.wire(f"{name}/{label}", radix(*digits))

        self.low = wire("low", unsigned(EXP_LOW_BITS))
        self.chunks = onehot_view(domain, f"{name}/chunks", EXP_CHUNKS, 16)
        self.far, self.rest = wire("far", BIT), wire("far-rest", unsigned(6))
        far, rest, u = self.far.whole(), self.rest.whole(), self.low.whole()
        split = u + (far + rest) * (1 << EXP_TOP) - x.whole()
        for i in range(EXP_CHUNKS):
            split = split + pick(self.chunks, i, tuple(range(16))) * (1 << (EXP_LOW_BITS + 4 * i))
            con.add(f"chunk{i}", expr(pick(self.chunks, i, (1,) * 16)) - 1)
        con.add("split", split)
        con.add("far", product(far, rest) - rest)

        self.a2, self.r2 = wire("square", U22, unsigned(6)), wire("square.remainder", Range(1 << 9))
        con.add("square", product(u, u) + (1 << 8) - self.a2.whole(1 << 9) - self.r2.whole())
        self.a3, self.r3 = wire("cube", unsigned(12)), wire("cube.remainder", U22, Range(3 << 10))
        con.add("cube", product(self.a2.whole(), u) + (3 << 31) - self.a3.whole(3 << 32) - self.r3.whole())
        y = domain.wire(f"{name}/series", PROBABILITY)
        con.add("series", expr(y.whole() + u * (1 << 24) - self.a2.whole() + self.a3.whole()) - ONE)
        self.ys: list[View] = [y]
        self.rems: list[View] = []
        for i in range(EXP_CHUNKS):
            table = [pick(self.chunks, i, limb) for limb in table_limbs(exp_table(i))]
            limbs = Limbs().add_product(limb_forms(self.ys[-1]), table).add_const(1 << (HEAD_BITS - 1))
            y, r = multiply_rounded(con, domain, f"{name}/y{i}", limbs, REMAINDER_56, HEAD_BITS)
            self.ys.append(y)
            self.rems.append(r)
        self.y = domain.wire(f"{name}/value", PROBABILITY)
        for d in range(3):
            con.add(f"value{d}", expr(self.ys[-1].digit(d) - self.y.digit(d)) - product(far, self.ys[-1].digit(d)))
