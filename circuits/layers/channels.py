"""Some of the channels, or the same ones in another order, cost nothing: layers read those they get where they lie."""

from __future__ import annotations

from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Integer, LayerSpec, Node


def _shape(node: Node, shape: list[int]) -> list[int]:
    if node["first"] + node["count"] > shape[0] or node["count"] % node["groups"]:
        picked = f"{node['count']} channels from {node['first']} on, in {node['groups']} groups"
        raise UnusableInput(f"its input of shape {shape} has no {picked}")
    return [node["count"], *shape[1:]]


class Channels(Layer):
    spec = LayerSpec(
        op="channels",
        fields={"first": Integer(0), "count": Integer(1)},
        options={"groups": (Integer(1), 1)},
        transparent=True,
        moves=True,
        output_shape=_shape,
    )

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        if x.shape[1] != shape[0]:
            raise UnusableInput("it reads flattened images: pick channels before the flatten")
        groups, count = node["groups"], node["count"]
        self.order = [node["first"] + j % groups * (count // groups) + j // groups for j in range(count)]
        net.count_table(len(x.parts) * count, "choice of channels")
        self.y = x.picked(self.order)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        back = [-1] * self.x.shape[1]
        for j, c in enumerate(self.order):
            back[c] = j
        net.count_table(len(dy.parts) * len(back), "choice of channels")
        self.dx = dy.picked(back)
