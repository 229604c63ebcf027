"""Flatten costs nothing: the next linear layer reads the (channel, position) axes as they are."""

from __future__ import annotations

from math import prod
from typing import Any

from ..net import Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Read, TorchForm


def _flatten(read: Read, start_dim: Any = 0, end_dim: Any = -1) -> dict[str, Any]:
    if (start_dim, end_dim) != (1, -1):
        raise ValueError(f"flatten must run from axis 1 to -1, not from {start_dim} to {end_dim}: flatten(1)")
    return {}


def _reshape(read: Read, *shape: Any) -> dict[str, Any] | None:
    """[batch, features]; that it is so is checked on the example."""
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    return {} if len(given) == 2 else None


class Flatten(Layer):
    spec = LayerSpec(
        op="flatten",
        transparent=True,
        output_shape=lambda node, shape, tensors: [prod(shape)],
        run=lambda F, node, tensors, x: x.flatten(1),
        forms=(
            TorchForm(("torch.nn.Flatten", "torch.flatten", "torch.Tensor.flatten"), _flatten),
            TorchForm(("torch.reshape", "torch.Tensor.reshape", "torch.Tensor.view"), _reshape),
        ),
    )

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.y, self.shape = x, (prod(shape),)

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        self.dx = dy if need_input else None
