"""How `circuits.layers.hardswish` is filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuits.language.tensors import DIGIT_BITS
from circuits.layers.hardswish import BOUND, Hardswish
from circuits.net import Contraction
from circuits.value import Value

from ..arithmetic import I64, floor_limbs, limb_products
from ..values import Ints, fill_contraction, read_value, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators
from .clamp import ClampedExecutor
from .pytorch import TorchForm, TorchLayer


class HardswishExecutor(ClampedExecutor):
    """The clamped values, then outputs and gradients with their remainders and carries."""

    layer_type = Hardswish
    layer: Hardswish
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.hardswish(x),
        forms=(TorchForm(("torch.nn.Hardswish", "torch.nn.functional.hardswish"), lambda read, *, inplace=False: {}),),
    )

    def forward(self, w: Witness, p: int) -> None:
        self.clamp(w, p)
        layer = self.layer
        self._divide(w, p, layer.y, layer.x, value_limbs(layer.clamped, w, p), layer.run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if layer.dx is not None:
            low, high = value_limbs(2 * layer.clamped, w, p)
            factor = [low, high + BOUND * read_value(layer.below - layer.above, w, p)]
            self._divide(w, p, layer.dx, layer.dy, factor, layer.run_input)
        return {}

    def _divide(self, w: Witness, p: int, out: Value, v: Value, factor: Sequence[Ints], run: Contraction) -> None:
        """v (factor + H) / (2 H), rounded: first by 2^22, then by the rest of 2 H."""
        limbs = value_limbs(v, w, p)

        def divide(part: slice) -> None:
            own = [d[part].astype(np.int64) for d in limbs]
            products = limb_products(own, [d[part].astype(np.int64) for d in factor])
            zero = np.zeros_like(own[0])
            shifted: list[I64] = [zero, *(d * BOUND for d in own)]
            total = [*products, *[zero] * (len(shifted) - len(products))]
            for k, more in enumerate(shifted):
                total[k] = total[k] + more
            quotients, low = floor_limbs(total, self.layer.high, DIGIT_BITS, f"{self.layer.name}", limit=62)
            values, high = np.divmod(quotients, 2 * BOUND)
            w.put(out.tensor, values, p, part)
            fill_contraction(run, w, products, low + (high << DIGIT_BITS), p, part)

        by_rows(v.shape, divide)
