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
from .affine import Affine


class Conv2d(Affine):
    op = "conv2d"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        channels = shape[0]
        windows = net.windows(shape, node["kernel"], node["stride"], node["padding"])
        self.table, self.inverse = windows.reads(), windows.readers()
        self.shape = (node["out_channels"], *windows.grid)
        o, c = DomainAxis("o", node["out_channels"]), DomainAxis("c", channels)
        k = DomainAxis("k", windows.count)
        self.out_axes = (o, DomainAxis("s", windows.outputs))
        self.position_axes = self.out_axes[1:]
        self.input_axes = (c, DomainAxis("i", windows.positions))
        self.weight_axes = (o, c, k)
        self.declare_forward(net, node, x, (o.size, c.size, k.size))

    def input_sources(self) -> tuple[Source, ...]:
        c, i = self.input_axes
        return Same("c", c.size), Gather("k", "s", self.table, i.size)

    def output_sources(self) -> tuple[Source, ...]:
        o, s = self.out_axes
        return Same("o", o.size), Gather("k", "i", self.inverse, s.size)
