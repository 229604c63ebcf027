"""Two-dimensional convolution (cross-correlation, as PyTorch's) with stride, zero padding, dilation and groups.

Positions are flattened row by row. Output position s reads input position ``table[k, s]`` through kernel position k:
edges, stride, padding and dilation are entries of this public table and cost nothing in the proof. Groups are an axis
of their own, g, of which and of the channels in a group another table makes the channels of input and output.
"""

from __future__ import annotations

from circuits.language.sources import Axis, Gather, Source

from ..net import Net
from ..value import Value
from ..windows import channels_of
from .affine import PARAMETERS, Affine, outputs_of
from .spec import Integer, Integers, LayerSpec, Node, require_image, window_shape


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    channels, kernel = outputs_of(node, shape, node["groups"]), node["weight_shape"][2:]
    return [channels, *window_shape(shape, kernel, node["stride"], node["padding"], node["dilation"])]


class Conv2d(Affine):
    spec = LayerSpec(
        op="conv2d",
        fields={**PARAMETERS, "stride": Integers(2, 1), "padding": Integers(2, 0)},
        options={"dilation": (Integers(2, 1), [1, 1]), "groups": (Integer(1), 1)},
        output_shape=_shape,
    )

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        outputs, channels, *kernel = node["weight_shape"]
        windows = net.windows(shape, kernel, node)
        self.table, self.inverse = windows.reads(), windows.readers()
        self.groups = groups = node["groups"]
        self.shared = (Axis("g", groups),) if groups > 1 else ()
        self.out_axes = (Axis("o", outputs // groups), Axis("s", windows.outputs))
        self.input_axes = (Axis("c", channels), Axis("i", windows.positions))
        self.weight_axes = (self.out_axes[0], Axis("k", windows.count), self.input_axes[0])
        self.weight_order = (0, 1, 3, 2) if self.shared else (0, 2, 1)  # runs of channels are longer
        self.declare_product(net, node, x)

    def channels(self, axis: Axis) -> Source:
        if not self.shared:
            return axis
        return Gather("g", axis.name, channels_of(self.groups, axis.size), self.groups * axis.size)

    def input_sources(self) -> tuple[Source, ...]:
        c, i = self.input_axes
        return self.channels(c), Gather("k", "s", self.table, i.size)

    def output_sources(self) -> tuple[Source, ...]:
        o, s = self.out_axes
        return self.channels(o), Gather("k", "i", self.inverse, s.size)
