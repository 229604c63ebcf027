"""What layers share that clamp their input: which side of two bounds it lies on, and by how much."""

from __future__ import annotations

from circuits.language.constraints import Expr, expr, product
from circuits.language.tensors import BIT, DIGIT_BITS, U22, Range, radix

from ..value import Value
from .base import Layer


class Clamped(Layer):
    """Bits u (z >= H) and l (z <= L), a value q in [L, H) and an excess e in [0, 2^44), all unique: q = L and z = L - e
    if l, q = H - 1 and z = H + e if u, else z = q = L + 1 + e. Then q + u is z between its bounds. Both bits at once
    would want q = L and q = H - 1."""

    def declare_clamp(self, x: Value, first: int, last: int, inner: str, constraint: str) -> None:
        """The bounds are `first` and `last` in units of 2^-10: then q has digits of exactly its range. Names of the
        tensor of q and of the constraint."""
        self.low, self.high = low, high = first << DIGIT_BITS, last << DIGIT_BITS
        self.inner = self.like_input(inner, radix(U22, Range(last - first, first)))
        self.above, self.below = self.like_input("above", radix(BIT)), self.like_input("below", radix(BIT))
        self.excess = self.like_input("excess", radix(U22, U22))
        con = self.constraint(constraint)
        q, u, l, e, z = map(self.form, (self.inner, self.above, self.below, self.excess, x))
        con.add("value", product(u, e) - product(l, e) + q + u - z)
        con.add("low", product(l, q) - l * low)
        con.add("high", product(u, q) - u * (high - 1))
        con.add("inside", product(u, q - e) + product(l, q - e) + e - q - (u + l) * (low + 1) + (low + 1))

    def passed(self, dy: Value) -> Expr:
        """What is handed back of a gradient: all of it between the bounds, elsewhere nothing."""
        d = self.form(dy)
        return expr(d) - product(self.form(self.above + self.below), d)

    @property
    def clamped(self) -> Value:
        """The input between its bounds."""
        return self.inner + self.above
