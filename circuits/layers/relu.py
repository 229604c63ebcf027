"""ReLU with PyTorch's gradient at zero: a = max(z, 0), dz = dy where z > 0, else 0.

A bit b and a magnitude m in [0, 2^44) with z = m + 1 if b = 1 and z = -m if b = 0: one encoding per value, zero
included. Then a = b (m + 1) and z = 2 a - m - b. Where nothing else reads z, that combination of digits *is* z.
"""

from __future__ import annotations

from circuits.language.constraints import product

from ..net import Net, Rectifier
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node, same_shape


class ReLU(Layer):
    spec = LayerSpec(op="relu", rectifies=True, output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.rectifier = net.rectifiers.get(self.name) or Rectifier(net, self.name, x.shape)
        self.y, self.bit, self.magnitude = self.rectifier.a, self.rectifier.bit, self.rectifier.magnitude
        con = self.constraint("forward")
        a, b, m = self.form(self.y), self.form(self.bit), self.form(self.magnitude)
        con.add("output", product(b, m) + b - a)
        self.fused = not (x - self.rectifier.z).parts
        if not self.fused:
            con.add("sign", 2 * a - m - b - self.form(x))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        gradient = product(self.form(self.bit), self.form(dy)) - self.form(self.dx)
        self.constraint("backward").add("gradient", gradient)
