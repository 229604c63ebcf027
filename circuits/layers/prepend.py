"""A learned entry before a sequence, as a class token: y_0 = weight, y_{s + 1} = x_s."""

from __future__ import annotations

from collections.abc import Callable

from circuits.language.forms import View
from circuits.language.sources import DomainAxis, Map, Source, Sum
from circuits.language.wide import Limbs
from zkcert.errors import UnusableInput

from ..net import Gradient, Net
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or tensors[node["weight"]].shape != (shape[0],):
        raise UnusableInput(
            f"weight of shape {list(tensors[node['weight']].shape)} does not fit an input of shape {shape}"
        )
    return [shape[0], 1, shape[2] + 1]


class Prepend(Layer):
    spec = LayerSpec(op="prepend", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        batch, channels, count = x.shape
        self.shape, self.weight_name = (channels, 1, count + 1), node["weight"]
        self.c, self.s = DomainAxis("c", channels), DomainAxis("s", count)
        self.first = Sum(count + 1, (1, *[0] * count))
        self.later = Map("s", tuple(range(1, count + 1)), count + 1)
        self.weight = net.weight(node["weight"], (channels,))
        self.y = net.activation(f"{self.name}/y", (batch, channels, count + 1))
        own, c = DomainAxis("b", batch), DomainAxis("c", channels)
        con = net.circuit.constraint(f"{self.name}/first", (net.pass_axis(), net.batch_axis(), self.c))
        weight = View(self.weight, (net.pass_axis(), c)).whole()
        con.add("first", self.y.whole(net.over_passes, own, c, self.first) - weight)
        con = net.circuit.constraint(f"{self.name}/later", (net.pass_axis(), net.batch_axis(), self.c, self.s))
        moved = self.y.whole(net.over_passes, own, c, self.later)
        con.add("later", moved - x.whole(net.over_passes, own, c, DomainAxis("s", count)))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/input-gradient", (net.pass_axis(), net.batch_axis(), self.c, self.s))
        own = net.batch_axis(), DomainAxis("c", self.c.size)
        kept = self.dx.whole(net.over_passes, *own, DomainAxis("s", self.s.size))
        con.add("later", kept - dy.whole(net.over_passes, *own, self.later))

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add(dy.whole(source, Sum(net.batch), DomainAxis("c", self.c.size), self.first))

        net.gradients.append(Gradient(self.weight_name, (self.c,), (), limbs, False, linear=True))
