"""What both pooling layers share: windows as a public index table over flattened positions."""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import DomainAxis
from circuits.language.forms import Form
from circuits.language.sources import Same, Source

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import Arrays, Integers, Node, require_image, window_shape

WINDOW = {"kernel": Integers(2, 1), "stride": Integers(2, 1)}
"""The fields of a pooling layer."""


def pool_shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    """Of windows without padding."""
    require_image(shape)
    return [shape[0], *window_shape(shape, node["kernel"], node["stride"], (0, 0))]


class Pool(Layer):
    def declare_windows(self, net: Net, node: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.windows = net.windows(shape, node["kernel"], node["stride"], (0, 0))
        self.reads, self.readers = self.windows.reads(), self.windows.readers()
        channels = shape[0]
        self.shape = (channels, *self.windows.grid)
        self.b, self.c = net.batch_axis(), DomainAxis("c", channels)
        self.k, self.s = DomainAxis("k", self.windows.count), DomainAxis("s", self.windows.outputs)
        self.i = DomainAxis("i", self.windows.positions)
        self.y = net.activation(f"{self.name}/y", (net.batch, channels, self.s.size))

    def form(self, v: Value, last: Source) -> Form:
        """The value as one form, its positions read through `last`."""
        return v.whole(self.net.over_passes, Same("b", self.b.size), Same("c", self.c.size), last)
