"""Hardtanh with PyTorch's gradient at its bounds: y = min(max(z, L), H); dz = dy where L < z < H, else 0. ReLU6 is one.

Bits u (z >= H) and l (z <= L), a value q in [L, H) and an excess e in [0, 2^44), all unique: q = L and z = L - e if l,
q = H - 1 and z = H + e if u, else z = q = L + 1 + e. Then y is q + u, which nothing needs to commit. Both bits at once
would want q = L and q = H - 1.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import DomainAxis, expr, product
from circuits.language.forms import Form
from circuits.language.sources import Same
from circuits.language.tensors import BIT, DIGIT_BITS, U22, Range, radix
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, Net
from ..value import Value
from .base import Layer
from .spec import Arrays, LayerSpec, Node, Number, same_shape

UNIT = 1 << FRACTION_BITS - DIGIT_BITS  # bounds are multiples of 1 / UNIT: then q has digits of exactly its range
BOUND = Number(-1024.0, 1024.0, "between -1024 and 1024")


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    low, high = (node[key] * UNIT for key in ("low", "high"))
    if low >= high or low % 1 or high % 1:
        raise UnusableInput(f"its bounds must be two multiples of 1/{UNIT}, the lower one first")
    return same_shape(node, shape, tensors)


class Hardtanh(Layer):
    spec = LayerSpec(op="hardtanh", fields={"low": BOUND, "high": BOUND}, output_shape=_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        first, last = (int(node[key] * UNIT) for key in ("low", "high"))
        self.low, self.high = low, high = first << DIGIT_BITS, last << DIGIT_BITS
        self.axes = (net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(x.shape)))
        names = {"y": radix(U22, Range(last - first, first)), "above": radix(BIT), "below": radix(BIT)}
        names["excess"] = radix(U22, U22)
        tensors = [net.circuit.tensor(f"{self.name}/{name}", net.passes, x.shape, d) for name, d in names.items()]
        self.inner, self.above, self.below, self.excess = map(Value.of, tensors)
        self.y = self.inner + self.above
        con = net.circuit.constraint(f"{self.name}/forward", self.axes)
        q, u, l, e, z = map(self._form, (self.inner, self.above, self.below, self.excess, x))
        con.add("value", product(u, e) - product(l, e) + q + u - z)
        con.add("low", product(l, q) - l * low)
        con.add("high", product(u, q) - u * (high - 1))
        con.add("inside", product(u, q - e) + product(l, q - e) + e - q - (u + l) * (low + 1) + (low + 1))

    def _form(self, v: Value) -> Form:
        return v.whole(self.net.over_passes, *(Same(a.name, a.size) for a in self.axes[1:]))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/backward", self.axes)
        outside, d = self._form(self.above + self.below), self._form(dy)
        con.add("gradient", expr(d) - product(outside, d) - self._form(self.dx))
