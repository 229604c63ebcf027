"""What stands at one position of a sequence."""

from __future__ import annotations

from typing import Any

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Arrays, Integer, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or node["position"] >= shape[2]:
        raise UnusableInput(f"its input of shape {shape} has no position {node['position']} in one row")
    return [shape[0], 1, 1]


class Take(Layer):
    spec = LayerSpec(op="take", fields={"position": Integer(0)}, transparent=True, output_shape=_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        raise UnusableInput("it has no circuit yet")

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        raise UnusableInput("it has no circuit yet")
