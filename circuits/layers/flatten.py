"""Flatten costs nothing: the next linear layer reads the (channel, position) axes as they are."""

from __future__ import annotations

from math import prod

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node


class Flatten(Layer):
    spec = LayerSpec(op="flatten", transparent=True, output_shape=lambda node, shape, tensors: [prod(shape)])

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.y, self.shape = x, (prod(shape),)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy
