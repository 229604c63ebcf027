"""How `circuits.layers.avgpool2d` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.avgpool2d import AvgPool2d

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor


class AvgPool2dExecutor(Executor):
    """Rounded means and remainders."""

    layer_type = AvgPool2d
    layer: AvgPool2d

    def forward(self, w: Witness, p: int) -> None:
        x = read_value(self.layer.x, w, p)[:, :, self.layer.index]
        total, count = x.sum(axis=2) + self.layer.k.size // 2, self.layer.k.size
        w.put(self.layer.y.tensor, total // count, p)
        w.put(self.layer.rem, total % count, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.layer.dx is not None:
            dy = read_value(self.layer.dy, w, p)
            total = np.full(self.layer.dx.shape, self.layer.k.size // 2, np.int64)
            for row in self.layer.index:
                total[:, :, row] += dy
            w.put(self.layer.dx.tensor, total // self.layer.k.size, p)
            w.put(self.layer.rem_back, total % self.layer.k.size, p)
        return {}
