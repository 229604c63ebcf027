"""How `circuits.layers.hardtanh` is filled."""

from __future__ import annotations

from typing import Any

from circuits.layers.hardtanh import Hardtanh

from ..values import read_value
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators
from .clamp import ClampedExecutor
from .pytorch import Read, TorchForm, TorchLayer


def _fields(read: Read, min_val: Any = -1.0, max_val: Any = 1.0, inplace: Any = False) -> dict[str, Any]:
    return {"low": min_val, "high": max_val}


class HardtanhExecutor(ClampedExecutor):
    """The clamped values, and the gradients inside."""

    layer_type = Hardtanh
    layer: Hardtanh
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.hardtanh(x, node["low"], node["high"]),
        forms=(
            TorchForm(("torch.nn.Hardtanh", "torch.nn.functional.hardtanh"), _fields),
            TorchForm(
                ("torch.nn.ReLU6", "torch.nn.functional.relu6"),
                lambda read, inplace=False: {"low": 0.0, "high": 6.0},
            ),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        self.clamp(w, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if (dx := layer.dx) is not None:

            def run(part: slice) -> None:
                outside = read_value(layer.above + layer.below, w, p, part)
                w.put(dx.tensor, read_value(layer.dy, w, p, part) * (1 - outside), p, part)

            by_rows(dx.shape, run)
        return {}
