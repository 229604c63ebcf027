"""What stands at one position of a sequence."""

from __future__ import annotations

from circuits.language.sources import Axis, Map, Sum
from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Integer, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or node["position"] >= shape[2]:
        raise UnusableInput(f"its input of shape {shape} has no position {node['position']} in one row")
    return [shape[0], 1, 1]


class Take(Layer):
    spec = LayerSpec(op="take", fields={"position": Integer(0)}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        batch, channels, count = x.shape
        self.position = node["position"]
        self.b, self.c, self.s = net.batch_axis(), Axis("c", channels), Axis("s", count)
        self.y = self.tensor("y", (batch, channels, 1))
        there = Sum(count, tuple(int(s == self.position) for s in range(count)))
        taken = self.form(x, self.b, self.c, there)
        self.constraint("forward", self.b, self.c).add("taken", self.form(self.y, self.b, self.c, Sum(1)) - taken)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        there = Map("s", tuple(-int(s != self.position) for s in range(self.s.size)), 1)
        con, put = self.constraint("input-gradient", self.b, self.c, self.s), self.form(dy, self.b, self.c, there)
        con.add("put", self.form(self.dx, self.b, self.c, self.s) - put)
