"""How `circuits.layers.batchnorm2d` is filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS
from circuits.layers.batchnorm2d import BatchNorm2d
from circuits.layers.spec import Node
from circuits.net import FRACTION_BITS
from circuits.value import Value
from zkcert.errors import UnusableInput

from ..arithmetic import I64, floor_limbs, limb_products
from ..values import fill_contraction, put_output, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer

HALF = 1 << 31
Ints = NDArray[np.int32] | NDArray[np.int64]


def _run(F: Any, node: Node, tensors: Mapping[str, Any], x: Any) -> Any:
    mean, var, weight, bias = (tensors[key] for key in ("mean", "var", "weight", "bias"))
    if mean is None and x.numel() == x.shape[1]:
        raise UnusableInput(f"layer {node['name']}: a single value per channel has no batch statistics")
    return F.batch_norm(x, mean, var, weight, bias, training=mean is None, eps=node["eps"])


def _fields(read: Read, eps: float, affine: bool, running_mean: Any) -> dict[str, Any]:
    if not affine or running_mean is None:
        raise ValueError(
            "a batch-norm needs running statistics, weight and bias: affine=True, track_running_stats=True"
        )
    return {"eps": eps}


class BatchNorm2dExecutor(Executor):
    """Scales, outputs and gradients, with their remainders and carries."""

    layer_type = BatchNorm2d
    layer: BatchNorm2d
    torch = TorchLayer(
        run=_run,
        forms=(TorchForm(("torch.nn.BatchNorm2d", "torch.nn.BatchNorm1d"), _fields),),
        attributes={"mean": "running_mean", "var": "running_var"},
    )

    def _times_factor(self, digits: list[I64]) -> list[I64]:
        return limb_products(digits, [np.array(weights, np.int64) for weights in self.layer.factors])

    def _minus_mean(self, limbs: list[I64], digits: list[I64]) -> list[I64]:
        """limbs - m * digits, all (channels,); at most one limb more."""
        out = [*limbs, *[np.zeros(self.layer.c.size, np.int64)] * (len(digits) + 1 - len(limbs))]
        for sign, k, weights in self.layer.signed_means:
            for i, d in enumerate(digits):
                out[k + i] = out[k + i] - sign * np.array(weights, np.int64) * d
        return out

    def _limbs(self, v: Value, w: Witness, p: int) -> list[Ints]:
        """Limbs (batch, channels, positions): one position where features have none."""
        return [d.reshape(*d.shape[:2], -1) for d in value_limbs(v, w, p)]

    def forward(self, w: Witness, p: int) -> None:
        whole = slice(0, self.layer.c.size)
        products = self._times_factor(w.digits(self.layer.weight, p))
        u, rem = floor_limbs(products, HALF, FRACTION_BITS, f"scale of {self.layer.name}", limit=38)
        w.put(self.layer.u.tensor, u, p)
        fill_contraction(self.layer.run_u, w, [], rem, p, whole)
        scale, bias = [d.astype(np.int64) for d in value_limbs(self.layer.u, w, p)], w.digits(self.layer.bias, p)
        zero = np.zeros(self.layer.c.size, np.int64)
        shift = self._minus_mean([zero, bias[0] << 10, bias[1] << 10], scale)
        x, sizes = self._limbs(self.layer.x, w, p), self.layer.x.shape[1:]

        def run(part: slice) -> None:
            own = limb_products([d[:, None] for d in scale], [d[part].astype(np.int64) for d in x])
            own += [np.zeros_like(own[0])] * (len(shift) - len(own))
            limbs = [a + b[:, None] for a, b in zip(own[: len(shift)], shift, strict=True)] + own[len(shift) :]
            y, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{self.layer.name} output")
            put_output(self.layer.out, w, y.reshape(-1, *sizes), p, part)
            fill_contraction(self.layer.run, w, own, rem, p, part)

        by_rows(self.layer.x.shape, run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        dy, x = self._limbs(self.layer.dy, w, p), self._limbs(self.layer.x, w, p)
        if (dx := self.layer.dx) is not None:
            scale = [d.astype(np.int64)[:, None] for d in value_limbs(self.layer.u, w, p)]

            def run(part: slice) -> None:
                limbs = limb_products(scale, [d[part].astype(np.int64) for d in dy])
                values, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{self.layer.name} input gradient")
                w.put(dx.tensor, values, p, part)
                fill_contraction(self.layer.run_input, w, limbs, rem, p, part)

            by_rows(dx.shape, run)
        products = [np.zeros(self.layer.c.size, np.int64) for _ in range(len(dy) + len(x) - 1)]
        sums = [np.zeros(self.layer.c.size, np.int64) for _ in dy]
        for sample in range(self.layer.b.size):
            d = [limb[sample].astype(np.int64) for limb in dy]
            for total, limb in zip(sums, d, strict=True):
                total += limb.sum(axis=1)
            for total, limb in zip(products, limb_products(d, [limb[sample] for limb in x]), strict=True):
                total += limb.sum(axis=1)
        limbs = self._minus_mean(products, sums)
        h, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"gradient of {self.layer.name}")
        w.put(self.layer.h.tensor, h, p)
        fill_contraction(self.layer.run_h, w, products, rem, p, slice(0, self.layer.c.size))
        bias = sum(total << (DIGIT_BITS * i) for i, total in enumerate(sums))
        return {
            self.layer.weight_name: self._times_factor(w.digits(self.layer.h.tensor, p)),
            self.layer.bias_name: [np.asarray(bias)],
        }
