"""How `circuits.layers.unembedding` is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.layers.unembedding import Unembedding

from ..arithmetic import F64
from .affine import AffineExecutor
from .pytorch import TorchLayer

Ints = NDArray[np.int32] | NDArray[np.int64]


class UnembeddingExecutor(AffineExecutor):
    """Positions of samples are rows of a matrix."""

    layer_type = Unembedding
    layer: Unembedding
    torch = TorchLayer(run=lambda F, node, tensors, x: F.conv2d(x, tensors["weight"][:, :, None, None]), forms=())

    def input_columns(self, x: Ints) -> F64:
        return x.swapaxes(1, 2).reshape(-1, x.shape[1]).astype(np.float64)

    def forward_matrix(self, weight: Ints) -> F64:
        return weight.T.astype(np.float64)

    def output_columns(self, dy: Ints) -> F64:
        return self.input_columns(dy)

    def backward_matrix(self, weight: Ints) -> F64:
        return weight.astype(np.float64)
