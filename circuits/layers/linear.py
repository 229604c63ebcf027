"""Fully connected layer y = W x + b; after a flatten the input keeps its (channel, position) axes."""

from __future__ import annotations

from circuits.language.sources import Axis
from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .affine import PARAMETERS, Affine, outputs_of
from .spec import LayerSpec, Node


def _shape(node: Node, shape: list[int]) -> list[int]:
    if len(shape) != 1:
        raise UnusableInput(f"its input has shape {shape}, not [features]; put a flatten before it")
    return [outputs_of(node, shape)]


class Linear(Affine):
    spec = LayerSpec(op="linear", fields=PARAMETERS, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        names = ("c", "s") if len(x.shape) == 3 else ("f",)
        self.input_axes = tuple(Axis(n, size) for n, size in zip(names, x.shape[1:], strict=True))
        self.out_axes = (Axis("o", node["weight_shape"][0]),)
        self.weight_axes = (*self.out_axes, *self.input_axes)
        self.declare_product(net, node, x)
