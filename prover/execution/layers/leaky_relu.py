"""How `circuits.layers.leaky_relu` is filled."""

from __future__ import annotations

import numpy as np

from circuits.layers.leaky_relu import ONE, LeakyReLU
from circuits.net import FRACTION_BITS, Committed, Contraction, Output
from circuits.value import Value

from ..arithmetic import floor_limbs
from ..values import fill_contraction, put_output, read_value, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import TorchForm, TorchLayer


class LeakyReLUExecutor(Executor):
    """Signs and magnitudes, then outputs and gradients with their remainders and carries."""

    layer_type = LeakyReLU
    layer: LeakyReLU
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.leaky_relu(x, node["negative_slope"]),
        forms=(
            TorchForm(
                ("torch.nn.LeakyReLU", "torch.nn.functional.leaky_relu"),
                lambda read, negative_slope=0.01, inplace=False: {"negative_slope": negative_slope},
            ),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer

        def signs(part: slice) -> None:
            z = read_value(layer.x, w, p, part)
            w.put(layer.bit.tensor, (z > 0).astype(np.int64), p, part)
            w.put(layer.magnitude.tensor, abs(z) - (z > 0), p, part)

        by_rows(layer.x.shape, signs)
        self._scale(w, p, layer.x, layer.out, layer.run, f"{layer.name} output")

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if layer.dx is not None:
            out = Committed(layer.dx)
            self._scale(w, p, layer.dy, out, layer.run_input, f"{layer.name} input gradient")
        return {}

    def _scale(self, w: Witness, p: int, v: Value, out: Output, run: Contraction, what: str) -> None:
        limbs = value_limbs(v, w, p)

        def scale(part: slice) -> None:
            own, bit = [d[part].astype(np.int64) for d in limbs], w.value(self.layer.bit.tensor, p, part)
            products = [d * (bit * (ONE - self.layer.slope)) for d in own]
            total = [d * self.layer.slope + more for d, more in zip(own, products, strict=True)]
            values, rem = floor_limbs(total, ONE >> 1, FRACTION_BITS, what)
            put_output(out, w, values, p, part)
            fill_contraction(run, w, products, rem, p, part)

        by_rows(v.shape, scale)
