"""How `circuits.layers.conv2d` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.layers.conv2d import Conv2d

from ..arithmetic import F64, I64
from ..workers import by_rows
from .affine import AffineExecutor
from .pytorch import Read, TorchForm, TorchLayer, one_row, pair

Ints = NDArray[np.int32] | NDArray[np.int64]


def _sequence_fields(
    read: Read, stride: Any, padding: Any, dilation: Any = (1,), groups: Any = 1, padding_mode: Any = "zeros"
) -> dict[str, Any]:
    fields = _fields(read, stride, padding, dilation, groups, padding_mode)
    across = {"stride": 1, "padding": 0, "dilation": 1}
    return {**fields, **{key: one_row(fields[key][-1], n) for key, n in across.items()}}


def _fields(
    read: Read, stride: Any, padding: Any, dilation: Any = (1, 1), groups: Any = 1, padding_mode: Any = "zeros"
) -> dict[str, Any]:
    if padding_mode != "zeros":
        raise ValueError(f"{read.module}: only zero padding is supported")
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, read.module.kernel_size, strict=True)]
        if any(n % 2 for n in reach):
            raise ValueError(f'{read.module}: padding="same" of an even kernel pads one side more: pad by a number')
        padding = [n // 2 for n in reach]
    padding = 0 if padding == "valid" else padding
    return {"stride": pair(stride), "padding": pair(padding), "dilation": pair(dilation), "groups": groups}


class Conv2dExecutor(AffineExecutor):
    """Windows become rows of a matrix."""

    layer_type = Conv2d
    layer: Conv2d
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.conv2d(
            x, tensors["weight"], tensors["bias"], node["stride"], node["padding"], node["dilation"], node["groups"]
        ),
        forms=(TorchForm(("torch.nn.Conv2d",), _fields), TorchForm(("torch.nn.Conv1d",), _sequence_fields)),
    )

    def input_columns(self, x: Ints) -> F64:
        return gathered(x, self.layer.table.index, self.layer.groups)

    def forward_matrix(self, weight: Ints) -> F64:
        return weight.reshape(*weight.shape[:-2], -1).swapaxes(-1, -2).astype(np.float64)

    def output_columns(self, dy: Ints) -> F64:
        return gathered(dy, self.layer.inverse.index, self.layer.groups)

    def backward_matrix(self, weight: Ints) -> F64:
        swapped = weight.swapaxes(-2, -3)  # (..., K, O, C)
        return swapped.reshape(*weight.shape[:-3], -1, weight.shape[-1]).astype(np.float64)


def gathered(x: Ints, index: I64, groups: int = 1) -> F64:
    """(B, C, I) and index (K, S) to (B * S, K * C): entry (b, s, k, c) is x[b, c, index[k, s]], zero for -1. Of several
    groups each (groups, B * S, K * C), C being those of a group."""
    batch, channels, size = x.shape
    count, positions = index.shape
    own = channels // groups
    out = np.empty((groups, batch, positions, count, own))

    def gather(samples: slice) -> None:
        padded = np.zeros((samples.stop - samples.start, size + 1, channels))
        padded[:, :size] = x[samples].swapaxes(1, 2)
        for k, row in enumerate(index):
            read = padded[:, row].reshape(-1, positions, groups, own)  # -1 reads the zeros at the end
            out[:, samples, :, k] = np.moveaxis(read, 2, 0)

    by_rows((batch, positions, count * channels), gather)
    return out.reshape(*([groups] if groups > 1 else []), batch * positions, count * own)
