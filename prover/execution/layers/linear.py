"""How `circuits.layers.linear` is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.layers.linear import Linear

from ..arithmetic import F64
from .affine import AffineExecutor
from .pytorch import TorchForm, TorchLayer

Ints = NDArray[np.int32] | NDArray[np.int64]


class LinearExecutor(AffineExecutor):
    """Inputs are a matrix already."""

    layer_type = Linear
    layer: Linear
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.linear(x, tensors["weight"], tensors["bias"]),
        forms=(TorchForm(("torch.nn.Linear",), lambda read: {}),),
    )

    def input_columns(self, x: Ints) -> F64:
        return x.reshape(len(x), -1).astype(np.float64)

    def forward_matrix(self, weight: Ints) -> F64:
        return weight.reshape(len(weight), -1).T.astype(np.float64)

    def output_columns(self, dy: Ints) -> F64:
        return dy.astype(np.float64)

    def backward_matrix(self, weight: Ints) -> F64:
        return weight.reshape(len(weight), -1).astype(np.float64)
