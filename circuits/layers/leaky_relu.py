"""LeakyReLU with PyTorch's gradient at zero: y = z where z > 0, else rescale(s z); dz = dy or rescale(s dy) likewise.

The slope s is a public integer in units of 2^-32. A bit b and a magnitude m in [0, 2^44) with z = m + 1 if b = 1 and
z = -m if b = 0, as in a ReLU, are stated as z + m = b (2 m + 1). For v = z as for v = dy, what comes out is then
rescale(s v + (2^32 - s) b v): exactly v where b = 1.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

from circuits.language.constraints import Constraint, DomainAxis, product
from circuits.language.forms import Form
from circuits.language.sources import Same
from circuits.language.tensors import BIT, DIGIT_BITS, U22, Tensor, radix
from circuits.language.wide import Limbs

from ..net import FRACTION_BITS, Contraction, Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Number, same_shape

ONE = 1 << FRACTION_BITS


class LeakyReLU(Layer):
    spec = LayerSpec(
        op="leaky_relu", fields={"negative_slope": Number(0.0, 1.0, "between 0 and 1")}, output_shape=same_shape
    )

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.slope = floor(Fraction(repr(node["negative_slope"])) * ONE + Fraction(1, 2))
        self.axes = (net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(x.shape)))
        self.bit = net.circuit.tensor(f"{self.name}/sign", net.passes, x.shape, radix(BIT))
        self.magnitude = net.circuit.tensor(f"{self.name}/magnitude", net.passes, x.shape, radix(U22, U22))
        con = net.circuit.constraint(f"{self.name}/sign", self.axes)
        b, m = self._form(self.bit), self._form(self.magnitude)
        con.add("sign", product(b, 2 * m) + b - m - x.whole(net.over_passes, *self._inner()))
        self.out = net.output(self.name, "y", x.shape)
        self.y = self.out.value
        self.run = self._scaled(net.circuit.constraint(f"{self.name}/forward", self.axes), self.y, x, "y")

    def _inner(self) -> list[Same]:
        return [Same(a.name, a.size) for a in self.axes[1:]]

    def _form(self, t: Tensor) -> Form:
        return Value.of(t).whole(self.net.over_passes, *self._inner())

    def _scaled(self, con: Constraint, out: Value, v: Value, label: str) -> Contraction:
        """Constrain `out` to v where the bit is set, else to its multiple."""
        limbs, forms = Limbs(), v.limbs(self.net.over_passes, *self._inner())
        for k, form in enumerate(forms):
            limbs.add(form * self.slope, DIGIT_BITS * k)
        if self.slope < ONE:
            limbs.add_product([self._form(self.bit)], forms, ONE - self.slope)
        return self.net.rescaled(con, out.limbs(self.net.over_passes, *self._inner()), limbs, label)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/input-gradient", self.axes)
        self.run_input = self._scaled(con, self.dx, dy, "dx")
