"""How `circuits.layers.cat` is filled."""

from __future__ import annotations

from typing import Any

from circuits.layers.cat import Cat

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer


def _fields(read: Read, dim: Any = 0) -> dict[str, Any]:
    if dim % read.rank() != 1:
        raise ValueError(f"concatenation along axis {dim}: only that of channels is supported: dim=1")
    return {}


class CatExecutor(Executor):
    """Nothing is filled."""

    layer_type = Cat
    layer: Cat
    torch = TorchLayer(
        run=lambda F, node, tensors, *inputs: F.torch.cat(inputs, 1),
        forms=(TorchForm(("torch.cat", "torch.concat", "torch.concatenate"), _fields),),
    )

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
