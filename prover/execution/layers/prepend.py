"""How `circuits.layers.prepend` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.prepend import Prepend

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer


class PrependExecutor(Executor):
    """Copies."""

    layer_type = Prepend
    layer: Prepend
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.pad(x, (1, 0)) + F.pad(tensors["weight"][:, None, None], (0, x.shape[3])),
        forms=(),
    )

    def forward(self, w: Witness, p: int) -> None:
        y = np.empty(self.layer.y.shape, np.int64)
        y[:, :, 0], y[:, :, 1:] = w.value(self.layer.weight, p), read_value(self.layer.x, w, p)
        w.put(self.layer.y.tensor, y, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        dy = read_value(self.layer.dy, w, p)
        if self.layer.dx is not None:
            w.put(self.layer.dx.tensor, dy[:, :, 1:], p)
        return {self.layer.weight_name: [dy[:, :, 0].sum(axis=0)]}
