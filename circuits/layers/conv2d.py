"""Two-dimensional convolution (cross-correlation, as PyTorch's) with stride and zero padding.

Positions are flattened row by row. Output position s reads input position ``table[k, s]`` through kernel position k:
edges, stride and padding are entries of this public table and cost nothing in the proof.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import DomainAxis, Gather, Same, Source, Table
from ..net import I64, Net, gather_table, inverse_table
from ..value import Value
from .affine import Affine


class Conv2d(Affine):
    op = "conv2d"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        kernel, stride, pad = node["kernel"], node["stride"], node["padding"]
        index = gather_table(height, width, kernel, stride, pad)
        self.table = Table(f"{node['name']}/in", index)
        self.inverse = Table(f"{node['name']}/out", inverse_table(index, height * width))
        out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip((height, width), pad, kernel, stride, strict=True)]
        self.shape = (node["out_channels"], *out)
        o, c = DomainAxis("o", node["out_channels"]), DomainAxis("c", channels)
        k = DomainAxis("k", len(index))
        self.out_axes = (o, DomainAxis("s", index.shape[1]))
        self.position_axes = self.out_axes[1:]
        self.input_axes = (c, DomainAxis("i", height * width))
        self.weight_axes = (o, c, k)
        self.declare_forward(net, node, x, (o.size, c.size, k.size))

    def input_sources(self) -> tuple[Source, ...]:
        c, i = self.input_axes
        return Same("c", c.size), Gather("k", "s", self.table, i.size)

    def output_sources(self) -> tuple[Source, ...]:
        o, s = self.out_axes
        return Same("o", o.size), Gather("k", "i", self.inverse, s.size)

    def columns(self, x: I64) -> I64:
        index = self.table.index
        cols = x[:, :, :, np.maximum(index, 0)] * (index >= 0)  # (d, B, C, K, S)
        d, b, c, k, s = cols.shape
        return cols.transpose(0, 1, 4, 2, 3).reshape(d, b * s, c * k)

    def scatter_columns(self, limbs: list[I64], batch: int) -> list[I64]:
        c, i = self.input_axes
        index = self.table.index
        out = []
        for x in limbs:
            cols = x.reshape(batch, index.shape[1], c.size, len(index))
            total = np.zeros((batch, c.size, i.size), np.int64)
            for k, row in enumerate(index):
                s = np.flatnonzero(row >= 0)
                total[:, :, row[s]] += cols[..., k][:, s].transpose(0, 2, 1)
            out.append(total)
        return out
