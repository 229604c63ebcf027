"""A number for each channel and position, which is added: learned positions of a sequence. y = x + weight."""

from __future__ import annotations

from circuits.language.sources import Axis

from ..net import Net, summed_gradient
from ..value import Value
from .base import Layer
from .spec import Array, LayerSpec, Node, misfit, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    if node["weight_shape"] != shape:
        raise misfit(node, shape)
    return shape


class Positions(Layer):
    spec = LayerSpec(op="positions", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.weight_name, self.weight = node["weight"], net.weight(node["weight"], x.shape[1:])
        self.own = Axis("c", x.shape[1]), Axis("s", x.shape[2])
        self.y = self.like_input("y")
        axes = net.batch_axis(), *self.own
        total = self.form(x - self.y, *axes) + self.view(self.weight, *self.own).whole()
        self.constraint("forward", *axes).add("sum", total)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        net.gradients.append(summed_gradient(self.weight_name, self.own, dy, net.batch_axis(), *self.own))
