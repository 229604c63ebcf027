"""How `circuits.layers.maxpool2d` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.maxpool2d import MaxPool2d

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor
from .pool import pool_forms


class MaxPool2dExecutor(Executor):
    """Maxima, choices and slacks."""

    layer_type = MaxPool2d
    layer: MaxPool2d
    torch = pool_forms("maxpool2d", ("torch.nn.MaxPool2d", "torch.nn.functional.max_pool2d"), lambda F: F.max_pool2d)

    def forward(self, w: Witness, p: int) -> None:
        x = read_value(self.layer.x, w, p)[:, :, self.layer.reads.index]  # (B, C, K, S)
        first = x.argmax(axis=2)
        y = np.take_along_axis(x, first[:, :, None], axis=2)
        order = np.arange(self.layer.k.size)[:, None]
        shape = self.layer.choice.shape
        w.put(self.layer.y.tensor, y[:, :, 0], p)
        w.put(self.layer.choice, (order == first[:, :, None]).astype(np.int64).reshape(shape), p)
        w.put(self.layer.slack, (y - x - (order < first[:, :, None])).reshape(shape), p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.layer.dx is not None:
            dy = read_value(self.layer.dy, w, p)
            chosen = w.value(self.layer.choice, p).reshape(*dy.shape[:2], self.layer.k.size, -1)
            dx = np.zeros(self.layer.dx.shape, np.int64)
            for k, row in enumerate(self.layer.reads.index):
                dx[:, :, row] += chosen[:, :, k] * dy
            w.put(self.layer.dx.tensor, dx, p)
        return {}
