"""Hardsigmoid: y = (min(max(z, -3), 3) + 3) / 6, rounded once; dz = dy / 6 where -3 < z < 3, rounded, else 0."""

from __future__ import annotations

from circuits.language.constraints import Expr, expr
from circuits.language.tensors import Range, radix

from ..net import Net
from ..value import Value
from .clamp import Clamped
from .hardtanh import UNIT
from .spec import LayerSpec, Node, same_shape


class Hardsigmoid(Clamped):
    spec = LayerSpec(op="hardsigmoid", output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.declare_clamp(x, -3 * UNIT, 3 * UNIT, "inner", "clamp")
        self.y = self.like_input("y")
        self.remainder = self._sixth("forward", self.y, expr(self.form(self.clamped)) + self.high)

    def _sixth(self, label: str, out: Value, total: Expr) -> Value:
        """Constrain 6 out + remainder = total + 3 with 0 <= remainder < 6; the remainder."""
        rest = self.like_input(f"{label}.remainder", radix(Range(6)))
        self.constraint(label).add("sixth", expr(6 * self.form(out) + self.form(rest)) - total - 3)
        return rest

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        self.remainder_back = self._sixth("backward", self.dx, self.passed(dy))
