"""Two-dimensional convolution (cross-correlation, as PyTorch's) with stride and zero padding.

Positions are flattened row by row. Output position s reads input position ``table[k, s]`` through kernel position k:
edges, stride and padding are entries of this public table and cost nothing in the proof.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import DomainAxis
from circuits.language.sources import Gather, Same, Source

from ..net import Net
from ..value import Value
from .affine import PARAMETERS, Affine, outputs_of
from .spec import Arrays, Integers, LayerSpec, Node, require_image, window_shape


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    channels = outputs_of(node, shape, tensors)
    return [channels, *window_shape(shape, tensors[node["weight"]].shape[2:], node["stride"], node["padding"])]


class Conv2d(Affine):
    spec = LayerSpec(
        op="conv2d", fields={**PARAMETERS, "stride": Integers(2, 1), "padding": Integers(2, 0)}, output_shape=_shape
    )

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        channels = shape[0]
        outputs, _, *kernel = node["weight_shape"]
        windows = net.windows(shape, kernel, node)
        self.table, self.inverse = windows.reads(), windows.readers()
        self.shape = (outputs, *windows.grid)
        o, c = DomainAxis("o", outputs), DomainAxis("c", channels)
        k = DomainAxis("k", windows.count)
        self.out_axes = (o, DomainAxis("s", windows.outputs))
        self.position_axes = self.out_axes[1:]
        self.input_axes = (c, DomainAxis("i", windows.positions))
        self.weight_axes, self.weight_order = (o, k, c), (0, 2, 1)  # runs of channels are longer
        self.declare_product(net, node, x)

    def input_sources(self) -> tuple[Source, ...]:
        c, i = self.input_axes
        return Same("c", c.size), Gather("k", "s", self.table, i.size)

    def output_sources(self) -> tuple[Source, ...]:
        o, s = self.out_axes
        return Same("o", o.size), Gather("k", "i", self.inverse, s.size)
