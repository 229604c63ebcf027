"""A learned entry before a sequence: a class token."""

from __future__ import annotations

from typing import Any

from zkcert.errors import UnusableInput

from ..net import Net
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

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        raise UnusableInput("it has no circuit yet")

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        raise UnusableInput("it has no circuit yet")
