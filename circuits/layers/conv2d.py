"""Two-dimensional convolution (cross-correlation, as PyTorch's) with stride and zero padding.

Positions are flattened row by row. Output position s reads input position ``table[k, s]`` through kernel position k:
edges, stride and padding are entries of this public table and cost nothing in the proof.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.language.constraints import DomainAxis
from circuits.language.sources import Gather, Same, Source
from prover.execution.workers import by_rows

from ..net import F64, I64, Net
from ..value import Ints, Value
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

    def input_columns(self, x: Ints) -> F64:
        return gathered(x, self.table.index)

    def forward_matrix(self, weight: Ints) -> F64:
        return weight.transpose(2, 1, 0).reshape(-1, len(weight)).astype(np.float64)

    def output_columns(self, dy: Ints) -> F64:
        return gathered(dy, self.inverse.index)

    def backward_matrix(self, weight: Ints) -> F64:
        return weight.transpose(2, 0, 1).reshape(-1, weight.shape[1]).astype(np.float64)

    def weight_order(self, flat: I64) -> I64:
        return flat.reshape(len(flat), self.table.shape[0], -1).swapaxes(1, 2)


def gathered(x: Ints, index: I64) -> F64:
    """(B, C, I) and index (K, S) to (B * S, K * C): entry (b, s, k, c) is x[b, c, index[k, s]], zero for -1."""
    batch, channels, size = x.shape
    count, positions = index.shape
    out = np.empty((batch, positions, count, channels))

    def gather(samples: slice) -> None:
        padded = np.zeros((samples.stop - samples.start, size + 1, channels))
        padded[:, :size] = x[samples].swapaxes(1, 2)
        for k, row in enumerate(index):
            out[samples, :, k] = padded[:, row]  # -1 reads the zeros at the end

    by_rows(out.shape, gather)
    return out.reshape(batch * positions, count * channels)
