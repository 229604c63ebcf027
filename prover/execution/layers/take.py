"""How `circuits.layers.take` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.take import Take

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer


class TakeExecutor(Executor):
    """Copies, and zeros elsewhere."""

    layer_type = Take
    layer: Take
    torch = TorchLayer(run=lambda F, node, tensors, x: x[..., node["position"], None], forms=())

    def forward(self, w: Witness, p: int) -> None:
        at = self.layer.position
        w.put(self.layer.y.tensor, read_value(self.layer.x, w, p)[:, :, at : at + 1], p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.layer.dx is not None:
            dx = np.zeros(self.layer.dx.shape, np.int64)
            dx[:, :, self.layer.position] = read_value(self.layer.dy, w, p)[:, :, 0]
            w.put(self.layer.dx.tensor, dx, p)
        return {}
