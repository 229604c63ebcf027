"""How `circuits.layers.function` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.layers.function import HALF, UNIT, Pointwise

from ..arithmetic import floor_limbs, limb_products
from ..values import fill_contraction, read_value, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer


def _calls(F: Any) -> dict[str, Any]:
    return {
        "sigmoid": F.sigmoid,
        "tanh": F.tanh,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "elu": F.elu,
        "softplus": F.softplus,
    }


def _gelu(read: Read, approximate: Any = "none") -> dict[str, Any]:
    return {"function": "gelu_tanh" if approximate == "tanh" else "gelu"}


def _elu(read: Read, alpha: Any = 1.0, inplace: Any = False) -> dict[str, Any]:
    if alpha != 1:
        raise ValueError(f"an ELU with alpha {alpha}: only alpha=1 has a table")
    return {"function": "elu"}


def _softplus(read: Read, beta: Any = 1.0, threshold: Any = 20.0) -> dict[str, Any]:
    if beta != 1 or threshold < 20:
        raise ValueError(f"a softplus with beta {beta}, threshold {threshold}: only beta=1, threshold=20 has a table")
    return {"function": "softplus"}


class PointwiseExecutor(Executor):
    """Segments and offsets, what the table has for them, outputs and slopes; then gradients."""

    layer_type = Pointwise
    layer: Pointwise
    torch = TorchLayer(
        run=lambda F, node, tensors, x: _calls(F)[node["function"]](x),
        forms=(
            TorchForm(
                ("torch.nn.Sigmoid", "torch.sigmoid", "torch.Tensor.sigmoid", "torch.nn.functional.sigmoid"),
                lambda read: {"function": "sigmoid"},
            ),
            TorchForm(
                ("torch.nn.Tanh", "torch.tanh", "torch.Tensor.tanh", "torch.nn.functional.tanh"),
                lambda read: {"function": "tanh"},
            ),
            TorchForm(
                ("torch.nn.SiLU", "torch.nn.functional.silu"), lambda read, *, inplace=False: {"function": "silu"}
            ),
            TorchForm(("torch.nn.GELU", "torch.nn.functional.gelu"), _gelu),
            TorchForm(("torch.nn.ELU", "torch.nn.functional.elu"), _elu),
            TorchForm(("torch.nn.Softplus", "torch.nn.functional.softplus"), _softplus),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        layer, function, rows = self.layer, self.layer.function, self.layer.table.rows

        def run(part: slice) -> None:
            z = read_value(layer.x, w, p, part)
            top, t = z >> 22, (z & (UNIT - 1)) - HALF
            g = np.clip(top, function.first, function.last)
            over, under = np.maximum(top - function.last, 0), np.maximum(function.first - top, 0)
            _, middle, mean, bend = np.moveaxis(rows[g - function.first], -1, 0)
            turned = bend * t + HALF
            turn = turned >> 22
            stepped = (mean + turn) * t + (1 << 31)
            step = stepped >> 32
            y = middle + step + (over * UNIT if function.above is None else 0)
            for v, found in (
                (layer.segment, g),
                (layer.offset, t),
                (layer.over, over),
                (layer.under, under),
                (layer.y, y),
                (layer.slope, mean + 2 * turn),
                (layer.bend, bend),
                (layer.turn, turn),
                (layer.turn_rest, turned - (turn << 22)),
                (layer.step, step),
                (layer.step_rest, stepped - (step << 32)),
            ):
                w.put(v.tensor, found, p, part)

        by_rows(layer.x.shape, run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if (dx := layer.dx) is not None:
            slope, dy = value_limbs(layer.slope, w, p), value_limbs(layer.dy, w, p)

            def run(part: slice) -> None:
                own, other = ([d[part].astype(np.int64) for d in limbs] for limbs in (slope, dy))
                products = limb_products(own, other)
                values, rest = floor_limbs(products, 1 << 31, 32, f"{layer.name} input gradient")
                w.put(dx.tensor, values, p, part)
                fill_contraction(layer.run_input, w, products, rest, p, part)

            by_rows(dx.shape, run)
        return {}
