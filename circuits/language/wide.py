"""Wide integer identities: limbs of 22 bits and committed carries.

A product of two Q31.32 numbers has up to 86 bits, more than the field holds. Such an identity is written as
``sum_k limb_k * 2^(22 k) = 0`` and proved limb by limb: each equation, with a committed and range-checked carry, has a
left side that provably stays below p, so it holds over the integers, and together they are the wide identity.
Neighbouring limbs are merged while the bounds allow it, which saves carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from zkcert.core.field import P

from .constraints import Circuit, Constant, Constraint, Expr, expr, expr_total
from .forms import Form, View
from .sources import ONCE, Axis
from .tensors import DIGIT_BITS, LOW, U22, Digit, Range, ceil_log2

_WIDTHS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 18, 22)


def table_size(count: int) -> int:
    """The lookup table used for `count` consecutive values: few different sizes, so that tables are shared."""
    bits = ceil_log2(max(count, 2))
    return 1 << next(w for w in _WIDTHS if w >= bits)


def digits_for(lo: int, hi: int) -> tuple[Digit, ...]:
    """Digits whose ranges cover every integer in [lo, hi] (22-bit limbs, the last one signed if need be)."""
    out = []
    shift = 0
    while (hi >> shift) - (lo >> shift) >= 1 << DIGIT_BITS:
        out.append(Digit(U22, shift))
        shift += DIGIT_BITS
    a, b = lo >> shift, hi >> shift
    if b - a >= 1 << 14 and table_size((b >> 10) - (a >> 10) + 1) <= 1 << 6:
        # sixteen bits without a table of that size
        out.append(Digit(LOW, shift))
        a, b, shift = a >> 10, b >> 10, shift + 10
    out.append(Digit(Range(table_size(b - a + 1), a), shift))
    return tuple(out)


@dataclass
class CarryStep:
    """``value + previous carry = carry << width`` with `value` the merged limbs `[first, last)`."""

    value: Expr
    first: int
    last: int
    carry: View | None


def signed_limbs(value: int) -> Iterator[int]:
    """An integer as limbs of its sign, worth 2^(22 k)."""
    sign, rest = (-1 if value < 0 else 1), abs(value)
    while rest:
        yield sign * (rest & ((1 << DIGIT_BITS) - 1))
        rest >>= DIGIT_BITS


class Limbs:
    """An integer expression as limbs worth 2^(22 k)."""

    def __init__(self) -> None:
        self._summands: list[list[Expr]] = []

    @property
    def parts(self) -> list[Expr]:
        """The limbs."""
        self._summands = [[expr_total(summands)] for summands in self._summands]
        return [whole for (whole,) in self._summands]

    def add(self, e: Expr | Form, power: int = 0) -> Limbs:
        """Add ``e * 2^power``."""
        k, rest = divmod(power, DIGIT_BITS)
        while len(self._summands) <= k:
            self._summands.append([Expr()])
        self._summands[k].append(expr(e) * (1 << rest))
        return self

    def add_value(self, view: View, coef: int = 1, power: int = 0) -> Limbs:
        """Add ``coef * value(view) * 2^power``, digit by digit."""
        for i, d in enumerate(view.tensor.digits):
            self.add(view.digit(i, coef), power + d.shift)
        return self

    def add_multiple(self, view: View, coef: int, power: int = 0) -> Limbs:
        """Add ``coef * value(view) * 2^power`` for a public integer of any size, which is split into limbs."""
        for k, limb in enumerate(signed_limbs(coef)):
            self.add_value(view, limb, power + DIGIT_BITS * k)
        return self

    def add_const(self, value: int, *weights: tuple[str, tuple[int, ...]]) -> Limbs:
        """Add a public integer, split into limbs of its sign, or (weights: an axis, and a number for each index) its
        multiples."""
        for k, limb in enumerate(signed_limbs(value)):
            self.add(Expr(constants=(Constant(limb, weights),) if limb else ()), DIGIT_BITS * k)
        return self

    def add_limbs(self, forms: Sequence[Form], coef: int = 1, power: int = 0) -> Limbs:
        """Add ``coef * 2^power * sum_k form_k 2^22k``."""
        for k, form in enumerate(forms):
            self.add(form * coef, power + DIGIT_BITS * k)
        return self

    def add_product(self, a: list[Form], b: list[Form], coef: int = 1, power: int = 0) -> Limbs:
        """Add ``coef * 2^power * (sum_i a_i 2^22i) * (sum_j b_j 2^22j)``."""
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                self.add(Expr(((x, y * coef),)), power + DIGIT_BITS * (i + j))
        return self


def limb_forms(view: View) -> list[Form]:
    """The digits of a view as limbs worth 2^(22 k); a limb may consist of several digits."""
    limbs: list[Form] = []
    for i, d in enumerate(view.tensor.digits):
        k, rest = divmod(d.shift, DIGIT_BITS)
        if k == len(limbs) and rest == 0:
            limbs.append(view.digit(i))
        elif k + 1 == len(limbs) and d.range.size << rest <= 1 << DIGIT_BITS:
            limbs[k] = limbs[k] + view.digit(i, 1 << rest)
        else:
            raise ValueError(f"{view.tensor.name} is not in radix 2^22")
    return limbs


def fits(bounds: tuple[int, int], width: int | None) -> bool:
    """Whether ``value - carry << width`` stays below p with the ranges the carry would get."""
    lo, hi = bounds
    reach = max(-lo, hi)
    if width is not None:
        digits = digits_for(lo >> width, hi >> width)
        low = sum(d.range.lo << d.shift for d in digits) << width
        high = sum(d.range.hi << d.shift for d in digits) << width
        reach = max(hi - low, high - lo)
    return reach < P


@dataclass(frozen=True)
class Domain:
    """Axes, and how wires over them are stored: the first axis unrolled into columns, or all inside a column; late ones
    after the weights are drawn."""

    circuit: Circuit
    axes: tuple[Axis, ...]
    unrolled: bool = False
    late: bool = False

    def wire(self, name: str, digits: tuple[Digit, ...]) -> View:
        """A tensor with an entry for every index of the axes."""
        sizes = [a.size for a in self.axes]
        if self.unrolled:
            return View(self.circuit.tensor(name, sizes[0], sizes[1:], digits, self.late), self.axes)
        return View(self.circuit.tensor(name, 1, sizes, digits, self.late), (ONCE, *self.axes))

    def constraint(self, name: str, summed: Iterable[Axis] = ()) -> Constraint:
        return self.circuit.constraint(name, self.axes, summed)

    def zero(self, con: Constraint, label: str, limbs: Limbs) -> list[CarryStep]:
        """Constrain the limbs, over the axes, to sum to zero over the integers; the carries, which executors fill, are
        in `con.carries` as well."""
        count = prod(ax.size for ax in con.summed)
        parts, steps = limbs.parts, list[CarryStep]()
        con.carries.append(steps)
        k, carry = 0, Expr()
        while True:
            value, total, last = parts[k], carry + parts[k], k + 1
            wider = value
            for end in range(k + 2, len(parts) + 1):
                wider = wider + parts[end - 1] * (1 << DIGIT_BITS * (end - 1 - k))
                whole = carry + wider
                if fits(whole.bounds(count), None if end == len(parts) else DIGIT_BITS * (end - k)):
                    value, total, last = wider, whole, end
            if last == len(parts):
                con.add(f"{label}[{k}:]", total)
                steps.append(CarryStep(value, k, last, None))
                return steps
            width = DIGIT_BITS * (last - k)
            lo, hi = total.bounds(count)
            c = self.wire(f"{con.name}/{label}.carry{last}", digits_for(lo >> width, hi >> width))
            con.add(f"{label}[{k}:{last}]", total - c.whole() * (1 << width))
            steps.append(CarryStep(value, k, last, c))
            carry, k = expr(c.whole()), last
