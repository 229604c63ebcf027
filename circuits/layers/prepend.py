"""A learned entry before a sequence, as a class token: y_0 = weight, y_{s + 1} = x_s."""

from __future__ import annotations

from circuits.language.sources import Axis, Map, Sum

from ..net import Net, summed_gradient
from ..value import Value
from .base import Layer
from .spec import Array, LayerSpec, Node, misfit, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or node["weight_shape"] != shape[:1]:
        raise misfit(node, shape)
    return [shape[0], 1, shape[2] + 1]


class Prepend(Layer):
    spec = LayerSpec(op="prepend", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        batch, channels, count = x.shape
        self.weight_name, self.weight = node["weight"], net.weight(node["weight"], (channels,))
        self.b, self.c, self.s = b, c, s = net.batch_axis(), Axis("c", channels), Axis("s", count)
        self.first = Sum(count + 1, (1, *[0] * count))
        self.later = Map("s", tuple(range(1, count + 1)), count + 1)
        self.y = self.tensor("y", (batch, channels, count + 1))
        first = self.form(self.y, b, c, self.first) - self.view(self.weight, c).whole()
        self.constraint("first", b, c).add("first", first)
        self.constraint("later", b, c, s).add("later", self.form(self.y, b, c, self.later) - self.form(x, b, c, s))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        own = self.b, self.c
        later = self.form(self.dx, *own, self.s) - self.form(dy, *own, self.later)
        self.constraint("input-gradient", *own, self.s).add("later", later)

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        net.gradients.append(summed_gradient(self.weight_name, (self.c,), dy, self.b, self.c, self.first))
