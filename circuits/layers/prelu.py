"""PReLU with PyTorch's gradient at zero: y = z where z > 0, else rescale(a z), of a slope a per channel or for all.

The slope is a parameter like any other, so it is hidden from the second pass on, and what is below zero has to be a
value of its own to be multiplied by it: with the bit b, the magnitude m and q = b (m + 1) of a ReLU, z = 2 q - m - b
and min(z, 0) = q - m - b. Then y - q = rescale(a min(z, 0)), dz - b dy = rescale(a (dy - b dy)), where b dy is
committed, and the gradient of a is the sum of dy min(z, 0).
"""

from __future__ import annotations

from collections.abc import Callable

from circuits.language.constraints import product
from circuits.language.forms import View
from circuits.language.sources import DomainAxis, Source, Sum
from circuits.language.tensors import BIT, U22, radix
from circuits.language.wide import Limbs, limb_forms
from zkcert.errors import UnusableInput

from ..net import VALUE, Gradient, Net
from ..value import Value
from .base import Elementwise
from .spec import Array, Arrays, LayerSpec, Node


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    if tensors[node["weight"]].shape not in ((1,), (shape[0],)):
        raise UnusableInput(f"its weight must have shape [1] or [{shape[0]}] for an input of shape {shape}")
    return shape


class PReLU(Elementwise):
    spec = LayerSpec(op="prelu", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        (slopes,) = node["weight_shape"]
        if slopes not in (1, x.shape[1]):
            raise UnusableInput("a PReLU of flattened images: put it before the flatten, or give it one slope for all")
        self.own = DomainAxis("a", 1) if slopes == 1 else self.axes[2]
        self.weight_name, self.weight = node["weight"], net.weight(node["weight"], (slopes,))
        digits = {"positive": VALUE, "sign": radix(BIT), "magnitude": radix(U22, U22)}
        tensors = [self.tensor(name, own) for name, own in digits.items()]
        self.positive, self.bit, self.magnitude = map(Value.of, tensors)
        self.negative = self.positive - self.magnitude - self.bit
        con = self.constraint("sign")
        q, b, m = map(self.form, (self.positive, self.bit, self.magnitude))
        con.add("positive", product(b, m) + b - q)
        con.add("sign", 2 * q - m - b - self.form(x))
        con = self.constraint("forward")
        self.out = net.output(self.name, "y", x.shape)
        self.y = self.out.value
        self.run = net.rescaled(con, self.limbs(self.y - self.positive), self._times_slope(self.negative), "y")

    def _times_slope(self, v: Value) -> Limbs:
        axis: Source = Sum(1) if self.own.name == "a" else DomainAxis(self.own.name, self.own.size)
        slope = limb_forms(View(self.weight, (self.net.pass_axis(), axis)))
        return Limbs().add_product(slope, self.limbs(v))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.kept = net.activation(f"{self.name}/kept", self.x.shape)
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        kept = product(self.form(self.bit), self.form(dy)) - self.form(self.kept)
        self.constraint("kept").add("kept", kept)
        out, limbs = self.limbs(self.dx - self.kept), self._times_slope(dy - self.kept)
        self.run_input = net.rescaled(self.constraint("input-gradient"), out, limbs, "dx")

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        inner = self.places()

        def limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add_product(dy.limbs(source, *inner), self.negative.limbs(source, *inner))

        summed = tuple(axis for axis in self.axes[1:] if axis is not self.own)
        net.gradients.append(Gradient(self.weight_name, (self.own,), summed, limbs, True))
