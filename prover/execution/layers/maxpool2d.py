"""How `circuits.layers.maxpool2d` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.layers.maxpool2d import MaxPool2d

from ..values import read_value
from ..witness import Witness, take
from .base import Accumulators, Executor
from .pool import in_a_row, pool_fields
from .pytorch import Read, TorchForm, TorchLayer, one_row, pair

LOWEST = -(1 << 62)  # below every value


def _fields(
    read: Read,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> dict[str, Any]:
    if pair(dilation) != [1, 1] or return_indices:
        raise ValueError("maxpool2d with dilation or return_indices is not supported: leave them at 1 and False")
    return pool_fields(kernel_size, stride, padding, ceil_mode)


def _sequence_fields(
    read: Read,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> dict[str, Any]:
    return _fields(read, *in_a_row(kernel_size, stride, padding), one_row(dilation, 1), ceil_mode, return_indices)


class MaxPool2dExecutor(Executor):
    """Maxima, choices and slacks."""

    layer_type = MaxPool2d
    layer: MaxPool2d
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.max_pool2d(
            x, node["kernel"], node["stride"], node["padding"], ceil_mode=node["ceil"]
        ),
        forms=(
            TorchForm(("torch.nn.MaxPool2d", "torch.nn.functional.max_pool2d", "torch.max_pool2d"), _fields),
            TorchForm(("torch.nn.MaxPool1d", "torch.nn.functional.max_pool1d", "torch.max_pool1d"), _sequence_fields),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        index = self.layer.reads.index
        inside = index >= 0
        x = np.where(inside, read_value(self.layer.x, w, p)[:, :, index], LOWEST)  # (B, C, K, S)
        first = x.argmax(axis=2)
        y = np.take_along_axis(x, first[:, :, None], axis=2)
        order = np.arange(self.layer.k.size)[:, None]
        w.put(self.layer.y.tensor, y[:, :, 0], p)
        w.put(self.layer.choice.tensor, (order == first[:, :, None])[:, :, inside].astype(np.int64), p)
        w.put(self.layer.slack.tensor, (y - x - (order < first[:, :, None]))[:, :, inside], p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.layer.dx is not None:
            dy = read_value(self.layer.dy, w, p)
            chosen = take(w.value(self.layer.choice.tensor, p), 2, self.layer.joint.index)
            dx = np.zeros(self.layer.dx.shape, np.int64)
            for k, row in enumerate(self.layer.reads.index):
                s = np.flatnonzero(row >= 0)
                dx[:, :, row[s]] += (chosen[:, :, k] * dy)[:, :, s]
            w.put(self.layer.dx.tensor, dx, p)
        return {}
