"""Attention of positions to each other: channels are queries, keys and values, those of a head together."""

from __future__ import annotations

from typing import Any

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Arrays, Flag, Integer, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or shape[0] % (3 * node["heads"]):
        raise UnusableInput(
            f"an input of shape {shape} does not make queries, keys and values of {node['heads']} heads"
        )
    return [shape[0] // 3, 1, shape[2]]


class Attention(Layer):
    spec = LayerSpec(op="attention", fields={"heads": Integer(1), "causal": Flag()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        raise UnusableInput("it has no circuit yet")

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        raise UnusableInput("it has no circuit yet")
