"""Logits by a table of embeddings: y[o, s] = rescale(sum_c weight[o, c] x[c, s])."""

from __future__ import annotations

from circuits.language.sources import Axis

from ..net import Net
from ..value import Value
from .affine import Affine
from .spec import Array, LayerSpec, Node, misfit, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    weight = node["weight_shape"]
    if len(weight) != 2 or weight[1] != shape[0] or shape[1] != 1:
        raise misfit(node, shape)
    return [weight[0], 1, shape[2]]


class Unembedding(Affine):
    spec = LayerSpec(op="unembedding", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        outputs, channels = node["weight_shape"]
        o, c, s = Axis("o", outputs), Axis("c", channels), Axis("s", x.shape[2])
        self.weight_axes, self.out_axes, self.input_axes = (o, c), (o, s), (c, s)
        self.declare_product(net, {**node, "bias": None}, x)
