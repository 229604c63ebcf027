"""What layers share that clamp their input: which side of two bounds it lies on, and by how much."""

from __future__ import annotations

from circuits.language.constraints import Constraint, DomainAxis, product
from circuits.language.forms import Form
from circuits.language.sources import Same
from circuits.language.tensors import BIT, DIGIT_BITS, U22, Range, radix

from ..net import Net
from ..value import Value
from .base import Layer


class Clamped(Layer):
    """Bits u (z >= H) and l (z <= L), a value q in [L, H) and an excess e in [0, 2^44), all unique: q = L and z = L - e
    if l, q = H - 1 and z = H + e if u, else z = q = L + 1 + e. Then q + u is z between its bounds. Both bits at once
    would want q = L and q = H - 1."""

    def declare_clamp(self, net: Net, x: Value, first: int, last: int, inner: str, constraint: str) -> None:
        """The bounds are `first` and `last` in units of 2^-10: then q has digits of exactly its range. Names of the
        tensor of q and of the constraint."""
        self.low, self.high = low, high = first << DIGIT_BITS, last << DIGIT_BITS
        self.axes = (net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(x.shape)))
        names = {inner: radix(U22, Range(last - first, first)), "above": radix(BIT), "below": radix(BIT)}
        names["excess"] = radix(U22, U22)
        tensors = [net.circuit.tensor(f"{self.name}/{name}", net.passes, x.shape, d) for name, d in names.items()]
        self.inner, self.above, self.below, self.excess = map(Value.of, tensors)
        con = net.circuit.constraint(f"{self.name}/{constraint}", self.axes)
        q, u, l, e, z = map(self.form, (self.inner, self.above, self.below, self.excess, x))
        con.add("value", product(u, e) - product(l, e) + q + u - z)
        con.add("low", product(l, q) - l * low)
        con.add("high", product(u, q) - u * (high - 1))
        con.add("inside", product(u, q - e) + product(l, q - e) + e - q - (u + l) * (low + 1) + (low + 1))

    @property
    def clamped(self) -> Value:
        """The input between its bounds."""
        return self.inner + self.above

    def constraint(self, name: str) -> Constraint:
        """A new constraint on every entry."""
        return self.net.circuit.constraint(f"{self.name}/{name}", self.axes)

    def places(self) -> list[Same]:
        """The sources of the inner axes."""
        return [Same(a.name, a.size) for a in self.axes[1:]]

    def form(self, v: Value) -> Form:
        """A value as one form."""
        return v.whole(self.net.over_passes, *self.places())

    def limbs(self, v: Value) -> list[Form]:
        """A value as forms worth 2^(22 k)."""
        return v.limbs(self.net.over_passes, *self.places())
