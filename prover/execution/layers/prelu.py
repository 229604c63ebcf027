"""How `circuits.layers.prelu` is filled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuits.layers.prelu import PReLU
from circuits.net import FRACTION_BITS, Contraction
from circuits.value import Value

from ..arithmetic import I64, floor_limbs, limb_products
from ..values import fill_contraction, put_output, read_value, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import TorchForm, TorchLayer

HALF = 1 << 31


class PReLUExecutor(Executor):
    """Signs, magnitudes and positive parts, then outputs and gradients with their remainders and carries."""

    layer_type = PReLU
    layer: PReLU
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.prelu(x, tensors["weight"]),
        forms=(TorchForm(("torch.nn.PReLU",), lambda read: {}),),
    )

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer

        def signs(part: slice) -> None:
            z = read_value(layer.x, w, p, part)
            bit = z > 0
            for v, found in ((layer.positive, z * bit), (layer.bit, bit), (layer.magnitude, abs(z) - bit)):
                w.put(v.tensor, found.astype(np.int64), p, part)

        by_rows(layer.x.shape, signs)

        def put(y: I64, part: slice) -> None:
            put_output(layer.out, w, y + read_value(layer.positive, w, p, part), p, part)

        self._times_slope(w, p, layer.negative, layer.run, f"{layer.name} output", put)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if (dx := layer.dx) is not None:
            kept = layer.kept.tensor

            def keep(part: slice) -> None:
                d = read_value(layer.dy, w, p, part) * w.value(layer.bit.tensor, p, part)
                w.put(kept, d, p, part)

            by_rows(dx.shape, keep)

            def put(d: I64, part: slice) -> None:
                w.put(dx.tensor, d + w.value(kept, p, part), p, part)

            self._times_slope(w, p, layer.dy - layer.kept, layer.run_input, f"{layer.name} input gradient", put)
        dy, negative = ([d.astype(np.int64) for d in value_limbs(v, w, p)] for v in (layer.dy, layer.negative))
        axes = tuple(i for i in range(len(layer.x.shape)) if i != 1 or layer.own.name == "a")
        sums = [d.sum(axis=axes).reshape(layer.weight.shape) for d in limb_products(dy, negative)]
        return {layer.weight_name: sums}

    def _times_slope(
        self, w: Witness, p: int, v: Value, run: Contraction, what: str, put: Callable[[I64, slice], None]
    ) -> None:
        """Fill a contraction of the slope and a value, and hand on what it gives."""
        limbs = value_limbs(v, w, p)
        slope = [d.reshape(1, -1, *[1] * (len(v.shape) - 2)) for d in w.digits(self.layer.weight, p)]

        def scale(part: slice) -> None:
            products = limb_products(slope, [d[part].astype(np.int64) for d in limbs])
            values, rem = floor_limbs(products, HALF, FRACTION_BITS, what)
            put(values, part)
            fill_contraction(run, w, products, rem, p, part)

        by_rows(v.shape, scale)
