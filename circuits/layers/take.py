"""What stands at one position of a sequence."""

from __future__ import annotations

from circuits.language.sources import DomainAxis, Map, Sum
from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Arrays, Integer, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or node["position"] >= shape[2]:
        raise UnusableInput(f"its input of shape {shape} has no position {node['position']} in one row")
    return [shape[0], 1, 1]


class Take(Layer):
    spec = LayerSpec(op="take", fields={"position": Integer(0)}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        batch, channels, count = x.shape
        self.shape, self.position = (channels, 1, 1), node["position"]
        self.c, self.s = DomainAxis("c", channels), DomainAxis("s", count)
        self.y = net.activation(f"{self.name}/y", (batch, channels, 1))
        con = net.circuit.constraint(f"{self.name}/forward", (net.pass_axis(), net.batch_axis(), self.c))
        own = DomainAxis("b", batch), DomainAxis("c", channels)
        there = Sum(count, tuple(int(s == self.position) for s in range(count)))
        con.add("taken", self.y.whole(net.over_passes, *own, Sum(1)) - x.whole(net.over_passes, *own, there))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/input-gradient", (net.pass_axis(), net.batch_axis(), self.c, self.s))
        own = net.batch_axis(), DomainAxis("c", self.c.size)
        there = Map("s", tuple(-int(s != self.position) for s in range(self.s.size)), 1)
        kept = self.dx.whole(net.over_passes, *own, DomainAxis("s", self.s.size))
        con.add("put", kept - dy.whole(net.over_passes, *own, there))
