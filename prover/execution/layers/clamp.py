"""How `circuits.layers.clamp` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.clamp import Clamped

from ..values import read_value
from ..witness import Witness
from ..workers import by_rows
from .base import Executor


class ClampedExecutor(Executor):
    """Bits, inner values and what lies beyond them."""

    layer: Clamped

    def clamp(self, w: Witness, p: int) -> None:
        """Fill the tensors of pass p."""
        layer, low, high = self.layer, self.layer.low, self.layer.high

        def run(part: slice) -> None:
            z = read_value(layer.x, w, p, part)
            above, below = z >= high, z <= low
            excess = np.where(below, low - z, z - np.where(above, high, low + 1))
            values = (np.clip(z, low, high - 1), above, below, excess)
            tensors = (layer.inner, layer.above, layer.below, layer.excess)
            for v, found in zip(tensors, values, strict=True):
                w.put(v.tensor, found.astype(np.int64), p, part)

        by_rows(layer.x.shape, run)
