"""A number for each channel and position, which is added: learned positions of a sequence. y = x + weight."""

from __future__ import annotations

from collections.abc import Callable

from circuits.language.forms import View
from circuits.language.sources import DomainAxis, Source, Sum
from circuits.language.wide import Limbs
from zkcert.errors import UnusableInput

from ..net import Gradient, Net
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if list(tensors[node["weight"]].shape) != list(shape):
        raise UnusableInput(
            f"weight of shape {list(tensors[node['weight']].shape)} does not fit an input of shape {shape}"
        )
    return shape


class Positions(Layer):
    spec = LayerSpec(op="positions", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.weight_name, self.axes = node["weight"], (DomainAxis("c", x.shape[1]), DomainAxis("s", x.shape[2]))
        self.weight = net.weight(node["weight"], x.shape[1:])
        self.y = net.activation(f"{self.name}/y", x.shape)
        con = net.circuit.constraint(f"{self.name}/forward", (net.pass_axis(), net.batch_axis(), *self.axes))
        own = [a for a in self.axes]
        weight = View(self.weight, (net.pass_axis(), *own)).whole()
        con.add("sum", (x - self.y).whole(net.over_passes, net.batch_axis(), *own) + weight)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add(dy.whole(source, Sum(net.batch), *(a for a in self.axes)))

        net.gradients.append(Gradient(self.weight_name, self.axes, (), limbs, False, linear=True))
