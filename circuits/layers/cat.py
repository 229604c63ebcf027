"""Concatenation costs nothing: the graph hands every layer the channels it reads, and each input its channels of the
gradient."""

from __future__ import annotations

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node, same_shape


class Cat(Layer):
    spec = LayerSpec(op="cat", inputs=2, joins=True, moves=True, transparent=True, output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.y = x

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy
