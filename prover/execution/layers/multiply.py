"""How `circuits.layers.multiply` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.layers.multiply import Multiply
from circuits.net import FRACTION_BITS, Contraction
from circuits.value import Value

from ..arithmetic import I64, floor_limbs, limb_products
from ..values import fill_contraction, put_output, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import TorchForm, TorchLayer

HALF = 1 << 31


def _spread(x: Any, axes: int) -> Any:
    """With so many axes, those of one entry behind its own."""
    return x.reshape(*x.shape, *[1] * (axes - x.ndim))


class MultiplyExecutor(Executor):
    """Products, with their remainders and carries."""

    layer_type = Multiply
    layer: Multiply
    torch = TorchLayer(
        run=lambda F, node, tensors, x, y: _spread(x, y.ndim) * _spread(y, x.ndim),
        forms=(
            TorchForm(
                (
                    "operator.mul",
                    "operator.imul",
                    "torch.mul",
                    "torch.multiply",
                    "torch.Tensor.mul",
                    "torch.Tensor.mul_",
                ),
                lambda read: {},
            ),
        ),
    )

    def _limbs(self, v: Value, w: Witness, p: int) -> list[Any]:
        return [_spread(d, len(self.layer.axes)) for d in value_limbs(v, w, p)]

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer
        factors = [self._limbs(v, w, p) for v in layer.branches]

        def run(part: slice) -> None:
            limbs = limb_products(*([d[part].astype(np.int64) for d in digits] for digits in factors))
            y, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{layer.name} output")
            put_output(layer.out, w, y, p, part)
            fill_contraction(layer.run, w, limbs, rem, p, part)

        by_rows(layer.y.shape, run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        for dx, run, other in zip(layer.dxs, layer.runs, reversed(layer.branches), strict=True):
            if dx is not None and run is not None:
                self._gradient(w, p, dx, run, other)
        return {}

    def _gradient(self, w: Witness, p: int, dx: Value, run: Contraction, other: Value) -> None:
        layer = self.layer
        factors = [self._limbs(v, w, p) for v in (layer.dy, other)]

        def fill(part: slice) -> None:
            limbs: list[I64] = limb_products(*([d[part].astype(np.int64) for d in digits] for digits in factors))
            if layer.single(dx):
                limbs = [d.sum(axis=2, keepdims=True) for d in limbs]
            values, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{layer.name} input gradient")
            w.put(dx.tensor, values, p, part)
            fill_contraction(run, w, limbs, rem, p, part)

        by_rows(layer.dy.shape, fill)
