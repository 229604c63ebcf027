"""How `circuits.layers.flatten` is filled."""

from __future__ import annotations

from circuits.layers.flatten import Flatten

from ..witness import Witness
from .base import Accumulators, Executor


class FlattenExecutor(Executor):
    """Nothing is filled."""

    layer_type = Flatten
    layer: Flatten

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
