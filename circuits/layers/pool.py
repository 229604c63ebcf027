"""What both pooling layers share: windows as a public index table over flattened positions."""

from __future__ import annotations

from typing import Any

from ..ir import DomainAxis, Form, Same, Source, Table
from ..net import Net, inverse_table
from ..value import Value
from .base import Layer


class Pool(Layer):
    def declare_windows(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        kernel, stride = node["kernel"], node["stride"]
        self.name, self.x, self.net = node["name"], x, net
        self.index = net.gather_table(height, width, kernel, stride, (0, 0))
        self.back = inverse_table(self.index, height * width)
        self.windows = Table(f"{self.name}/in", self.index)
        self.inverse = Table(f"{self.name}/out", self.back)
        out = [(n - k) // s + 1 for n, k, s in zip((height, width), kernel, stride, strict=True)]
        self.shape = (channels, *out)
        self.b, self.c = net.batch_axis(), DomainAxis("c", channels)
        self.k, self.s = DomainAxis("k", len(self.index)), DomainAxis("s", self.index.shape[1])
        self.i = DomainAxis("i", height * width)
        self.y = net.activation(f"{self.name}/y", (net.batch, channels, self.s.size))

    def form(self, v: Value, last: Source) -> Form:
        """The value as one form, its positions read through `last`."""
        return v.whole(self.net.over_passes, Same("b", self.b.size), Same("c", self.c.size), last)
