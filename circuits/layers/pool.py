"""What both pooling layers share: windows as a public index table over flattened positions."""

from __future__ import annotations

from typing import Any

from circuits.language.forms import Form
from circuits.language.sources import Axis, Source
from zkcert.errors import UnusableInput

from ..net import Net
from ..value import Value
from ..windows import AdaptiveWindows, Windows
from .base import Layer
from .spec import Field, Flag, Integers, Node, require_image, window_shape

WINDOW = {"kernel": Integers(2, 1), "stride": Integers(2, 1)}
"""The fields of a pooling layer."""
BORDER: dict[str, tuple[Field, Any]] = {"padding": (Integers(2, 0), [0, 0]), "ceil": (Flag(), False)}
"""Its options."""


def pool_shape(node: Node, shape: list[int]) -> list[int]:
    """Of windows, at least half of each of which lies in the image along each axis."""
    require_image(shape)
    if any(2 * pad > k for pad, k in zip(node["padding"], node["kernel"], strict=True)):
        raise UnusableInput(f"padding {node['padding']} is more than half of the kernel {node['kernel']}")
    return [shape[0], *window_shape(shape, node["kernel"], node["stride"], node["padding"], ceil=node["ceil"])]


class Pool(Layer):
    def declare_windows(self, net: Net, windows: Windows | AdaptiveWindows, channels: int) -> None:
        self.reads, self.readers = windows.reads(), windows.readers()
        self.b, self.c = net.batch_axis(), Axis("c", channels)
        self.k, self.s = Axis("k", self.reads.shape[0]), Axis("s", windows.outputs)
        self.i = Axis("i", windows.positions)
        self.y = self.tensor("y", (net.batch, channels, self.s.size))

    def at(self, v: Value, last: Source) -> Form:
        """The value as one form, its positions read through `last`."""
        return self.form(v, self.b, self.c, last)
