"""PReLU with PyTorch's gradient at zero: y = z where z > 0, else rescale(a z), of a slope a per channel or for all.

The slope is a parameter like any other, so it is hidden from the second pass on, and what is below zero has to be a
value of its own to be multiplied by it: with the bit b, the magnitude m and q = b (m + 1) of a ReLU, z = 2 q - m - b
and min(z, 0) = q - m - b. Then y - q = rescale(a min(z, 0)), dz - b dy = rescale(a (dy - b dy)), where b dy is
committed, and the gradient of a is the sum of dy min(z, 0).
"""

from __future__ import annotations

from circuits.language.constraints import product
from circuits.language.forms import Form
from circuits.language.sources import Axis, Sum
from circuits.language.tensors import BIT, U22, radix
from circuits.language.wide import Limbs, limb_forms
from zkcert.errors import UnusableInput

from ..net import Net, product_gradient
from ..value import Unrolled, Value
from .base import Layer
from .spec import Array, LayerSpec, Node


def _shape(node: Node, shape: list[int]) -> list[int]:
    if node["weight_shape"] not in ([1], shape[:1]):
        raise UnusableInput(f"its weight must have shape [1] or [{shape[0]}] for an input of shape {shape}")
    return shape


class PReLU(Layer):
    spec = LayerSpec(op="prelu", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        (slopes,) = node["weight_shape"]
        if slopes not in (1, x.shape[1]):
            raise UnusableInput("a PReLU of flattened images: put it before the flatten, or give it one slope for all")
        self.own = Axis("a", 1) if slopes == 1 else self.axes[1]
        self.weight_name, self.weight = node["weight"], net.weight(node["weight"], (slopes,))
        self.positive, self.bit = self.like_input("positive"), self.like_input("sign", radix(BIT))
        self.magnitude = self.like_input("magnitude", radix(U22, U22))
        self.negative = self.positive - self.magnitude - self.bit
        con = self.constraint("sign")
        q, b, m = map(self.form, (self.positive, self.bit, self.magnitude))
        con.add("positive", product(b, m) + b - q)
        con.add("sign", 2 * q - m - b - self.form(x))
        con = self.constraint("forward")
        self.y = self.output("y", x.shape)
        self.run = net.rescaled(con, self.limbs(self.y - self.positive), self._times_slope(self.negative), "y")

    def _times_slope(self, v: Value) -> Limbs:
        slope = self.view(self.weight, Sum(1) if self.own.name == "a" else self.own)
        return Limbs().add_product(limb_forms(slope), self.limbs(v))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.kept, self.dx = self.like_input("kept"), self.like_input("dx")
        self.constraint("kept").add("kept", product(self.form(self.bit), self.form(dy)) - self.form(self.kept))
        out, limbs = self.limbs(self.dx - self.kept), self._times_slope(dy - self.kept)
        self.run_input = net.rescaled(self.constraint("input-gradient"), out, limbs, "dx")

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def operands(source: Unrolled) -> tuple[list[Form], list[Form]]:
            return dy.limbs(source, *self.axes), self.negative.limbs(source, *self.axes)

        summed = tuple(axis for axis in self.axes if axis is not self.own)
        net.gradients.append(product_gradient(self.weight_name, (self.own,), summed, operands))
