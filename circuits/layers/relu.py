"""ReLU with PyTorch's gradient at zero: a = max(z, 0), dz = dy where z > 0, else 0.

A bit b and a magnitude m in [0, 2^44) with z = m + 1 if b = 1 and z = -m if b = 0: one encoding per value, zero
included. Then a = b (m + 1) and z = 2 a - m - b. Where nothing else reads z, that combination of digits *is* z.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import DomainAxis, product
from circuits.language.forms import Form
from circuits.language.sources import Same
from circuits.language.tensors import Tensor

from ..net import Net, Rectifier
from ..value import Value
from .base import Layer
from .spec import LayerSpec, same_shape


class ReLU(Layer):
    spec = LayerSpec(op="relu", rectifies=True, output_shape=same_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.axes = (net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(x.shape)))
        self.rectifier = net.rectifiers.get(self.name) or Rectifier(net, self.name, x.shape)
        self.y, self.bit, self.magnitude = self.rectifier.a, self.rectifier.bit, self.rectifier.magnitude
        con = net.circuit.constraint(f"{self.name}/forward", self.axes)
        a, b, m = self._form(self.y), self._plain(self.bit), self._plain(self.magnitude)
        con.add("output", product(b, m) + b - a)
        self.fused = not (x - self.rectifier.z).parts
        if not self.fused:
            con.add("sign", 2 * a - m - b - self._form(x))

    def _plain(self, t: Tensor) -> Form:
        return self._form(Value.of(t))

    def _form(self, v: Value) -> Form:
        return v.whole(self.net.over_passes, *(Same(a.name, a.size) for a in self.axes[1:]))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/backward", self.axes)
        con.add("gradient", product(self._plain(self.bit), self._form(dy)) - self._form(self.dx))
