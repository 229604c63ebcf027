"""Addition costs nothing: the graph hands every layer the sum of what it reads, and readers' gradients likewise."""

from __future__ import annotations

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node, same_shape


class Add(Layer):
    spec = LayerSpec(op="add", inputs=2, transparent=True, output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.y = x

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy
