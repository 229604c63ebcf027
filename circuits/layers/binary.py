"""One logit z as two, (0, z): their cross-entropy is exactly the binary cross-entropy of z, and so is its gradient.

The zero is none of the model's, so nothing is committed or perturbed for it.
"""

from __future__ import annotations

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node


def _shape(node: Node, shape: list[int]) -> list[int]:
    if shape != [1]:
        raise UnusableInput(f"its input has shape {shape}, not one logit")
    return [2]


class Binary(Layer):
    spec = LayerSpec(op="binary", transparent=True, moves=True, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        if x.shape[1] != 1:
            raise UnusableInput("one logit of flattened images: pool to one position before")
        net.count_table(2 * len(x.parts), "logit")
        self.y = x.picked([-1, 0])

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        net.count_table(len(dy.parts), "logit")
        self.dx = dy.picked([1])
