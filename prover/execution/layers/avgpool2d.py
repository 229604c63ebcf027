"""How `circuits.layers.avgpool2d` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.layers.avgpool2d import AvgPool2d

from ..values import read_value
from ..witness import Witness
from .base import Accumulators, Executor
from .pool import pool_forms
from .pytorch import Read, TorchForm, pair


def _adaptive(read: Read, output_size: Any) -> dict[str, Any]:
    """The windows of an adaptive pooling; sizes must divide."""
    extent = read.extent()
    size = [extent[i] if n is None else n for i, n in enumerate(pair(output_size))]
    if any(n < 1 or e % n for e, n in zip(extent, size, strict=True)):
        raise ValueError(f"adaptive pooling from {extent} to {size}: sizes must divide, as 1 does")
    kernel = [e // n for e, n in zip(extent, size, strict=True)]
    return {"kernel": kernel, "stride": kernel}


def _mean(read: Read, dim: Any = None, keepdim: Any = False) -> list[dict[str, Any]]:
    """The mean over both image axes."""
    if ({d % 4 for d in dim} if isinstance(dim, tuple | list) else {dim}) != {2, 3}:
        raise ValueError(f"mean over axes {dim}: only the mean over both image axes is supported: dim=(2, 3)")
    pool = {"op": "avgpool2d", **_adaptive(read, 1)}
    return [pool] if keepdim else [pool, {"op": "flatten"}]


class AvgPool2dExecutor(Executor):
    """Rounded means and remainders."""

    layer_type = AvgPool2d
    layer: AvgPool2d
    torch = pool_forms(
        "avgpool2d",
        ("torch.nn.AvgPool2d", "torch.nn.functional.avg_pool2d"),
        lambda F: F.avg_pool2d,
        TorchForm(("torch.nn.AdaptiveAvgPool2d", "torch.nn.functional.adaptive_avg_pool2d"), _adaptive),
        TorchForm(("torch.mean", "torch.Tensor.mean"), _mean),
    )

    def forward(self, w: Witness, p: int) -> None:
        x = read_value(self.layer.x, w, p)[:, :, self.layer.reads.index]
        total, count = x.sum(axis=2) + self.layer.k.size // 2, self.layer.k.size
        w.put(self.layer.y.tensor, total // count, p)
        w.put(self.layer.rem, total % count, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.layer.dx is not None:
            dy = read_value(self.layer.dy, w, p)
            total = np.full(self.layer.dx.shape, self.layer.k.size // 2, np.int64)
            for row in self.layer.reads.index:
                total[:, :, row] += dy
            w.put(self.layer.dx.tensor, total // self.layer.k.size, p)
            w.put(self.layer.rem_back, total % self.layer.k.size, p)
        return {}
