"""How `circuits.layers.adaptiveavgpool2d` is filled."""

from __future__ import annotations

from typing import Any

from circuits.layers.adaptiveavgpool2d import AdaptiveAvgPool2d

from .avgpool2d import AveragingExecutor
from .pytorch import Read, TorchForm, TorchLayer, one_row, pair


def _fields(read: Read, output_size: Any) -> list[dict[str, Any]]:
    """Plain windows where the sizes divide."""
    extent = read.extent()
    size = [extent[i] if n is None else n for i, n in enumerate(pair(output_size))]
    if all(n and e % n == 0 for e, n in zip(extent, size, strict=True)):
        kernel = [e // n for e, n in zip(extent, size, strict=True)]
        return [{"op": "avgpool2d", "kernel": kernel, "stride": kernel}]
    return [{"op": "adaptiveavgpool2d", "size": size}]


def _sequence_fields(read: Read, output_size: Any) -> list[dict[str, Any]]:
    return _fields(read, one_row(output_size, 1))


class AdaptiveAvgPool2dExecutor(AveragingExecutor):
    """Of windows of several sizes."""

    layer_type = AdaptiveAvgPool2d
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.adaptive_avg_pool2d(x, node["size"]),
        forms=(
            TorchForm(("torch.nn.AdaptiveAvgPool2d", "torch.nn.functional.adaptive_avg_pool2d"), _fields),
            TorchForm(
                ("torch.nn.AdaptiveAvgPool1d", "torch.nn.functional.adaptive_avg_pool1d", "torch.adaptive_avg_pool1d"),
                _sequence_fields,
            ),
        ),
    )
