"""Hardsigmoid: y = (min(max(z, -3), 3) + 3) / 6, rounded once; dz = dy / 6 where -3 < z < 3, rounded, else 0."""

from __future__ import annotations

from circuits.language.constraints import Expr, expr, product
from circuits.language.tensors import Range, Tensor, radix

from ..net import Net
from ..value import Value
from .clamp import Clamped
from .hardtanh import UNIT
from .spec import LayerSpec, Node, same_shape


class Hardsigmoid(Clamped):
    spec = LayerSpec(op="hardsigmoid", output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.declare_clamp(x, -3 * UNIT, 3 * UNIT, "inner", "clamp")
        self.y = net.activation(f"{self.name}/y", x.shape)
        self.remainder = self._sixth("forward", self.y, expr(self.form(self.clamped)) + self.high)

    def _sixth(self, label: str, out: Value, total: Expr) -> Tensor:
        """Constrain 6 out + remainder = total + 3 with 0 <= remainder < 6; the remainder."""
        t = self.tensor(f"{label}.remainder", radix(Range(6)))
        self.constraint(label).add("sixth", expr(6 * self.form(out) + self.form(t)) - total - 3)
        return t

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        outside, d = self.form(self.above + self.below), self.form(dy)
        self.remainder_back = self._sixth("backward", self.dx, expr(d) - product(outside, d))
