"""Hardswish: y = z (c + 3) / 6 for c = min(max(z, -3), 3), rounded once; dz is dy (2 z + 3) / 6 where -3 < z < 3,
rounded, dy from 3 on, and 0 up to -3.

With H = 3 2^32 both are divisions by 2 H: of z (c + H), and of dy (2 c + H (1 - u + l)) with the bits of `Clamped`.
"""

from __future__ import annotations

from circuits.language.forms import Form
from circuits.language.tensors import DIGIT_BITS, U22, Range, radix
from circuits.language.wide import Limbs

from ..net import Contraction, Net
from ..value import Value
from .clamp import Clamped
from .hardtanh import UNIT
from .spec import LayerSpec, Node, same_shape

BOUND = 3 * UNIT  # H / 2^22
REMAINDER = radix(U22, Range(2 * BOUND))  # [0, 2 H)


class Hardswish(Clamped):
    spec = LayerSpec(op="hardswish", output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.declare_clamp(x, -BOUND, BOUND, "inner", "clamp")
        self.y = self.like_input("y")
        self.run = self._divided("forward", self.y, x, self.limbs(self.clamped), "y")

    def _divided(self, label: str, out: Value, v: Value, factor: list[Form], name: str) -> Contraction:
        """Constrain `out` to v (factor + H) / (2 H), rounded."""
        rest = Limbs().add_limbs(self.limbs(v), BOUND, DIGIT_BITS).add_limbs(self.limbs(out), -2 * BOUND, DIGIT_BITS)
        limbs = Limbs().add_product(self.limbs(v), factor)
        con = self.constraint(label)
        left = self.net.remainder(con, f"{con.name}.remainder", REMAINDER)
        return self.net.divided(con, limbs, self.high, left, rest, name)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        low, high = self.limbs(2 * self.clamped)
        factor = [low, high + self.form(self.below - self.above) * BOUND]
        self.run_input = self._divided("input-gradient", self.dx, dy, factor, "dx")
