"""How `circuits.layers.attention` is filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuits.layers.attention import Attention
from circuits.layers.spec import Node

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer


def _run(F: Any, node: Node, tensors: Mapping[str, Any], x: Any) -> Any:
    batch, channels, _, length = x.shape
    parts = x.reshape(batch, 3, node["heads"], channels // (3 * node["heads"]), length).transpose(-1, -2)
    out = F.scaled_dot_product_attention(*parts.unbind(1), is_causal=node["causal"])
    return out.transpose(-1, -2).reshape(batch, channels // 3, 1, length)


class AttentionExecutor(Executor):
    layer_type = Attention
    layer: Attention
    torch = TorchLayer(run=_run, forms=())

    def forward(self, w: Witness, p: int) -> None:
        raise NotImplementedError

    def backward(self, w: Witness, p: int) -> Accumulators:
        raise NotImplementedError
