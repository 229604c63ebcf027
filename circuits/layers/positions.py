"""A number for each channel and position, which is added: learned positions of a sequence."""

from __future__ import annotations

from typing import Any

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    if list(tensors[node["weight"]].shape) != list(shape):
        raise UnusableInput(
            f"weight of shape {list(tensors[node['weight']].shape)} does not fit an input of shape {shape}"
        )
    return shape


class Positions(Layer):
    spec = LayerSpec(op="positions", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        raise UnusableInput("it has no circuit yet")

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        raise UnusableInput("it has no circuit yet")
