"""Logits by a table of embeddings: y[o, s] = rescale(sum_c weight[o, c] x[c, s])."""

from __future__ import annotations

from circuits.language.sources import DomainAxis, Source
from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .affine import Affine
from .spec import Array, Arrays, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    weight = tensors[node["weight"]].shape
    if len(weight) != 2 or weight[1] != shape[0] or shape[1] != 1:
        raise UnusableInput(f"weight of shape {list(weight)} does not fit an input of shape {shape}")
    return [weight[0], 1, shape[2]]


class Unembedding(Affine):
    spec = LayerSpec(op="unembedding", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        outputs, channels = node["weight_shape"]
        self.shape = (outputs, 1, x.shape[2])
        c, self.s = DomainAxis("c", channels), DomainAxis("s", x.shape[2])
        self.weight_axes = (DomainAxis("o", outputs), c)
        self.out_axes, self.input_axes, self.position_axes = (self.weight_axes[0], self.s), (c, self.s), (self.s,)
        self.declare_product(net, {**node, "bias": None}, x)

    def input_sources(self) -> tuple[Source, ...]:
        return self.plain(self.input_axes)

    def output_sources(self) -> tuple[Source, ...]:
        return self.plain(self.out_axes)
