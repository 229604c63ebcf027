"""Adaptive average pooling: to a given number of rows and columns, of windows that may differ in size and overlap."""

from __future__ import annotations

from ..net import Net
from ..value import Value
from ..windows import AdaptiveWindows
from .avgpool2d import Averaging
from .spec import Integers, LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    return [shape[0], *node["size"]]


class AdaptiveAvgPool2d(Averaging):
    spec = LayerSpec(op="adaptiveavgpool2d", fields={"size": Integers(2, 1)}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        rows, columns = node["size"]
        windows = net.counted(AdaptiveWindows(shape[1], shape[2], (rows, columns)), f"pooling to {rows}x{columns}")
        self.declare_averages(net, windows, windows.divisors(), x, shape[0])
