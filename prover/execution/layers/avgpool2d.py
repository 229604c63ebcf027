"""How `circuits.layers.avgpool2d` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.layers.avgpool2d import Averaging, AvgPool2d
from circuits.value import Value

from ..values import read_value
from ..witness import Witness, take
from .base import Accumulators, Executor
from .pool import in_a_row, pool_fields
from .pytorch import Read, TorchForm, TorchLayer

I64 = NDArray[np.int64]


def _fields(
    read: Read,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    divisor_override: Any = None,
) -> dict[str, Any]:
    fields = pool_fields(kernel_size, stride, padding, ceil_mode)
    return {**fields, "inside": not count_include_pad, "divisor": divisor_override or 0}


def _sequence_fields(
    read: Read,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
) -> dict[str, Any]:
    return _fields(read, *in_a_row(kernel_size, stride, padding), ceil_mode, count_include_pad)


def _mean(read: Read, dim: Any = None, keepdim: Any = False) -> list[dict[str, Any]]:
    """The mean over both image axes, or over that of a sequence."""
    rank = read.rank()
    given = {d % rank for d in (dim if isinstance(dim, tuple | list) else [dim]) if d is not None}
    if given != set(range(2, max(rank, 3))):
        raise ValueError(
            f"mean over axes {dim}: only the mean over both image axes, dim=(2, 3), or over a sequence is supported"
        )
    kernel = read.extent()
    pool = {"op": "avgpool2d", "kernel": kernel, "stride": kernel}
    return [pool] if keepdim else [pool, {"op": "flatten"}]


class AveragingExecutor(Executor):
    """Rounded means and remainders."""

    layer: Averaging

    def forward(self, w: Witness, p: int) -> None:
        total = take(read_value(self.layer.x, w, p), 2, self.layer.reads.index).sum(axis=2)
        self._divide(w, p, self.layer.y, total, self.layer.parts)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if layer.dx is not None:
            back = read_value(layer.dy, w, p)
            if not layer.even:
                self._divide(w, p, layer.share, back, layer.parts_back)
                back = read_value(layer.share, w, p)
            total = np.zeros(layer.dx.shape, np.int64)
            for row in layer.readers.index:
                total += take(back, 2, row)
            if layer.even:
                self._divide(w, p, layer.dx, total, layer.parts_back)
            else:
                w.put(layer.dx.tensor, total, p)
        return {}

    def _divide(self, w: Witness, p: int, out: Value, total: I64, parts: list[Value]) -> None:
        """total / D, rounded, and what the division leaves."""
        divisors = np.array(self.layer.divisors[:1] if self.layer.even else self.layer.divisors)
        values, rest = np.divmod(total + divisors // 2, divisors)
        w.put(out.tensor, values, p)
        for part, left in zip(parts, (rest, divisors - 1 - rest), strict=False):
            w.put(part.tensor, left, p)


class AvgPool2dExecutor(AveragingExecutor):
    """Of windows of one size."""

    layer_type = AvgPool2d
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.avg_pool2d(
            x,
            node["kernel"],
            node["stride"],
            node["padding"],
            node["ceil"],
            not node["inside"],
            node["divisor"] or None,
        ),
        forms=(
            TorchForm(("torch.nn.AvgPool2d", "torch.nn.functional.avg_pool2d"), _fields),
            TorchForm(("torch.nn.AvgPool1d", "torch.nn.functional.avg_pool1d", "torch.avg_pool1d"), _sequence_fields),
            TorchForm(("torch.mean", "torch.Tensor.mean"), _mean),
        ),
    )
