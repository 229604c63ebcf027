"""How `circuits.layers.hardsigmoid` is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import Tensor
from circuits.layers.hardsigmoid import Hardsigmoid
from circuits.value import Value

from ..values import read_value
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators
from .clamp import ClampedExecutor
from .pytorch import TorchForm, TorchLayer


class HardsigmoidExecutor(ClampedExecutor):
    """The clamped values, their sixths, and those of gradients."""

    layer_type = Hardsigmoid
    layer: Hardsigmoid
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.hardsigmoid(x),
        forms=(
            TorchForm(("torch.nn.Hardsigmoid", "torch.nn.functional.hardsigmoid"), lambda read, *, inplace=False: {}),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        self.clamp(w, p)
        layer = self.layer

        def run(part: slice) -> None:
            total = read_value(layer.clamped, w, p, part) + layer.high
            self._divide(w, p, part, layer.y, total, layer.remainder.tensor)

        by_rows(layer.x.shape, run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if (dx := layer.dx) is not None:

            def run(part: slice) -> None:
                outside = read_value(layer.above + layer.below, w, p, part)
                total = read_value(layer.dy, w, p, part) * (1 - outside)
                self._divide(w, p, part, dx, total, layer.remainder_back.tensor)

            by_rows(dx.shape, run)
        return {}

    @staticmethod
    def _divide(w: Witness, p: int, part: slice, out: Value, total: NDArray[np.int64], rest: Tensor) -> None:
        values, left = np.divmod(total + 3, 6)
        w.put(out.tensor, values, p, part)
        w.put(rest, left, p, part)
