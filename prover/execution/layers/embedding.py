"""How `circuits.layers.embedding` is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS
from circuits.layers.embedding import Embedding

from ..values import value_limbs
from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer

I64 = NDArray[np.int64]


class EmbeddingExecutor(Executor):
    """Rows of the table, and sums of gradients by row."""

    layer_type = Embedding
    layer: Embedding
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.embedding(x[:, 0, 0].long(), tensors["weight"]).movedim(-1, 1)[:, :, None],
        forms=(),
    )

    def _tokens(self, w: Witness, p: int) -> I64:
        """(batch, L)."""
        return np.asarray(w.value(self.layer.x.tensor, p // 2).argmax(axis=1)[:, :-1])

    def forward(self, w: Witness, p: int) -> None:
        rows = w.value(self.layer.weight, p)[self._tokens(w, p)]
        w.put(self.layer.y.tensor, rows.swapaxes(1, 2), p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        tokens, sums = self._tokens(w, p).ravel(), []
        for limb in value_limbs(self.layer.dy, w, p):
            total = np.zeros(self.layer.weight.shape, np.int64)
            np.add.at(total, tokens, limb.swapaxes(1, 2).reshape(len(tokens), -1))
            sums.append(total)
        if self.layer.tied:  # in units of 2^-64, as limbs
            return {self.layer.weight_name: [np.zeros_like(sums[0]), *(total << 10 for total in sums)]}
        return {self.layer.weight_name: [np.asarray(sum(s << (DIGIT_BITS * k) for k, s in enumerate(sums)))]}
