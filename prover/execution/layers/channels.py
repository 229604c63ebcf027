"""How `circuits.layers.channels` is filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuits.layers.channels import Channels
from circuits.layers.spec import Node

from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer


def _run(F: Any, node: Node, tensors: Mapping[str, Any], x: Any) -> Any:
    picked = x[:, node["first"] : node["first"] + node["count"]]
    return picked.unflatten(1, (node["groups"], -1)).transpose(1, 2).flatten(1, 2)


def _shuffle(read: Read, groups: Any) -> dict[str, Any]:
    return {"first": 0, "count": read.channels(), "groups": groups}


class ChannelsExecutor(Executor):
    """Nothing is filled."""

    layer_type = Channels
    layer: Channels
    torch = TorchLayer(
        run=_run,
        forms=(
            TorchForm(
                ("torch.nn.ChannelShuffle", "torch.nn.functional.channel_shuffle", "torch.channel_shuffle"), _shuffle
            ),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        pass

    def backward(self, w: Witness, p: int) -> Accumulators:
        return {}
