"""LeakyReLU with PyTorch's gradient at zero: y = z where z > 0, else rescale(s z); dz = dy or rescale(s dy) likewise.

The slope s is a public integer in units of 2^-32. A bit b and a magnitude m in [0, 2^44) with z = m + 1 if b = 1 and
z = -m if b = 0, as in a ReLU, are stated as z + m = b (2 m + 1). For v = z as for v = dy, what comes out is then
rescale(s v + (2^32 - s) b v): exactly v where b = 1.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

from circuits.language.constraints import product
from circuits.language.tensors import BIT, U22, radix
from circuits.language.wide import Limbs

from ..net import FRACTION_BITS, Contraction, Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node, Number, same_shape

ONE = 1 << FRACTION_BITS


class LeakyReLU(Layer):
    spec = LayerSpec(
        op="leaky_relu", fields={"negative_slope": Number(0.0, 1.0, "between 0 and 1")}, output_shape=same_shape
    )

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.slope = floor(Fraction(repr(node["negative_slope"])) * ONE + Fraction(1, 2))
        self.bit, self.magnitude = self.like_input("sign", radix(BIT)), self.like_input("magnitude", radix(U22, U22))
        b, m = self.form(self.bit), self.form(self.magnitude)
        self.constraint("sign").add("sign", product(b, 2 * m) + b - m - self.form(x))
        self.y = self.output("y", x.shape)
        self.run = self._scaled("forward", self.y, x, "y")

    def _scaled(self, constraint: str, out: Value, v: Value, label: str) -> Contraction:
        """Constrain `out` to v where the bit is set, else to its multiple."""
        limbs = Limbs().add_limbs(self.limbs(v), self.slope)
        if self.slope < ONE:
            limbs.add_product([self.form(self.bit)], self.limbs(v), ONE - self.slope)
        return self.net.rescaled(self.constraint(constraint), self.limbs(out), limbs, label)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        self.run_input = self._scaled("input-gradient", self.dx, dy, "dx")
