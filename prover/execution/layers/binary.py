"""How `circuits.layers.binary` is filled."""

from __future__ import annotations

from circuits.layers.binary import Binary

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer


class BinaryExecutor(Executor):
    """Nothing is filled. PyTorch has no such layer: the conversion puts it behind a module that gives one logit."""

    layer_type = Binary
    layer: Binary
    torch = TorchLayer(run=lambda F, node, tensors, x: F.pad(x, (1, 0)), forms=())

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
