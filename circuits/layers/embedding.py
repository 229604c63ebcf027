"""What stands for each token: the row of a table."""

from __future__ import annotations

from typing import Any

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    weight = tensors[node["weight"]].shape
    if shape[:2] != [1, 1] or len(weight) != 2:
        raise UnusableInput(f"weight of shape {list(weight)} does not fit tokens of shape {shape}")
    return [weight[1], 1, shape[2]]


class Embedding(Layer):
    spec = LayerSpec(op="embedding", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        raise UnusableInput("it has no circuit yet")

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        raise UnusableInput("it has no circuit yet")
