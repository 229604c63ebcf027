"""How `circuits.layers.positions` is filled."""

from __future__ import annotations

from circuits.layers.positions import Positions

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer


class PositionsExecutor(Executor):
    """A sum."""

    layer_type = Positions
    layer: Positions
    torch = TorchLayer(run=lambda F, node, tensors, x: x + tensors["weight"], forms=())

    def forward(self, w: Witness, p: int) -> None:
        w.put(self.layer.y.tensor, read_value(self.layer.x, w, p) + w.value(self.layer.weight, p), p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {self.layer.weight_name: [read_value(self.layer.dy, w, p).sum(axis=0)]}
