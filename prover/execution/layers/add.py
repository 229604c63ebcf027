"""How `circuits.layers.add` is filled."""

from __future__ import annotations

from circuits.layers.add import Add

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchForm, TorchLayer


class AddExecutor(Executor):
    """Nothing is filled."""

    layer_type = Add
    layer: Add
    torch = TorchLayer(
        run=lambda F, node, tensors, x, y: x + y,
        forms=(
            TorchForm(
                ("operator.add", "operator.iadd", "torch.add", "torch.Tensor.add", "torch.Tensor.add_"), lambda read: {}
            ),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
