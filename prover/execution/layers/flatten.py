"""How `circuits.layers.flatten` is filled."""

from __future__ import annotations

from typing import Any

from circuits.layers.flatten import Flatten

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer


def _flatten(read: Read, start_dim: Any = 0, end_dim: Any = -1) -> dict[str, Any]:
    if (start_dim, end_dim) != (1, -1):
        raise ValueError(f"flatten must run from axis 1 to -1, not from {start_dim} to {end_dim}: flatten(1)")
    return {}


def _reshape(read: Read, *shape: Any) -> dict[str, Any] | None:
    """[batch, features]; that it is so is checked on the example."""
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    return {} if len(given) == 2 else None


def _squeeze(read: Read, dim: Any = None) -> dict[str, Any]:
    """[batch, features]; that it is so is checked on the example."""
    return {}


class FlattenExecutor(Executor):
    """Nothing is filled."""

    layer_type = Flatten
    layer: Flatten
    torch = TorchLayer(
        run=lambda F, node, tensors, x: x.flatten(1),
        forms=(
            TorchForm(("torch.nn.Flatten", "torch.flatten", "torch.Tensor.flatten"), _flatten),
            TorchForm(("torch.reshape", "torch.Tensor.reshape", "torch.Tensor.view"), _reshape),
            TorchForm(("torch.squeeze", "torch.Tensor.squeeze"), _squeeze),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
