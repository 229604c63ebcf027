"""The positions of an image, row by row, in one row: patches as a sequence."""

from __future__ import annotations

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Arrays, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    return [shape[0], 1, shape[1] * shape[2]]


class Line(Layer):
    spec = LayerSpec(op="line", transparent=True, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.y, self.shape = x, (shape[0], 1, shape[1] * shape[2])

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy
