"""How `circuits.layers.conv2d` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.layers.conv2d import Conv2d

from ..arithmetic import F64, I64
from ..workers import by_rows
from .affine import AffineExecutor
from .pytorch import Read, TorchForm, TorchLayer, pair

Ints = NDArray[np.int32] | NDArray[np.int64]


def _fields(
    read: Read, stride: Any, padding: Any, dilation: Any = (1, 1), groups: Any = 1, padding_mode: Any = "zeros"
) -> dict[str, Any]:
    padding = 0 if padding == "valid" else padding
    if groups != 1 or dilation != (1, 1) or padding_mode != "zeros" or isinstance(padding, str):
        raise ValueError(f"{read.module}: only groups=1, dilation=1 and numeric zero padding are supported")
    return {"stride": pair(stride), "padding": pair(padding)}


class Conv2dExecutor(AffineExecutor):
    """Windows become rows of a matrix."""

    layer_type = Conv2d
    layer: Conv2d
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.conv2d(
            x, tensors["weight"], tensors["bias"], node["stride"], node["padding"]
        ),
        forms=(TorchForm(("torch.nn.Conv2d",), _fields),),
    )

    def input_columns(self, x: Ints) -> F64:
        return gathered(x, self.layer.table.index)

    def forward_matrix(self, weight: Ints) -> F64:
        return weight.reshape(len(weight), -1).T.astype(np.float64)

    def output_columns(self, dy: Ints) -> F64:
        return gathered(dy, self.layer.inverse.index)

    def backward_matrix(self, weight: Ints) -> F64:
        return weight.swapaxes(0, 1).reshape(-1, weight.shape[2]).astype(np.float64)


def gathered(x: Ints, index: I64) -> F64:
    """(B, C, I) and index (K, S) to (B * S, K * C): entry (b, s, k, c) is x[b, c, index[k, s]], zero for -1."""
    batch, channels, size = x.shape
    count, positions = index.shape
    out = np.empty((batch, positions, count, channels))

    def gather(samples: slice) -> None:
        padded = np.zeros((samples.stop - samples.start, size + 1, channels))
        padded[:, :size] = x[samples].swapaxes(1, 2)
        for k, row in enumerate(index):
            out[samples, :, k] = padded[:, row]  # -1 reads the zeros at the end

    by_rows(out.shape, gather)
    return out.reshape(batch * positions, count * channels)
