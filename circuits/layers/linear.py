"""Fully connected layer y = W x + b; after a flatten the input keeps its (channel, position) axes."""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import DomainAxis
from circuits.language.sources import Same, Source

from ..net import Net
from ..value import Value
from .affine import Affine


class Linear(Affine):
    op = "linear"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        names = ("c", "s") if len(x.shape) == 3 else ("f",)
        self.input_axes = tuple(DomainAxis(n, size) for n, size in zip(names, x.shape[1:], strict=True))
        outputs = DomainAxis("o", node["out_features"])
        self.out_axes, self.position_axes = (outputs,), ()
        self.weight_axes = (outputs, *self.input_axes)
        self.shape = (outputs.size,)
        self.declare_forward(net, node, x, tuple(a.size for a in self.weight_axes))

    def input_sources(self) -> tuple[Source, ...]:
        return tuple(Same(a.name, a.size) for a in self.input_axes)

    def output_sources(self) -> tuple[Source, ...]:
        return (Same("o", self.out_axes[0].size),)
