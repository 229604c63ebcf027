"""What both pooling layers are in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .pytorch import Read, TorchForm, TorchLayer, pair


def pool_forms(op: str, names: tuple[str, ...], run: Callable[..., Any], *more: TorchForm) -> TorchLayer:
    """Of a pooling layer whose function is `run`(F)(inputs, kernel, stride); more: other forms."""

    def fields(
        read: Read,
        kernel_size: Any,
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
        divisor_override: Any = None,
        count_include_pad: Any = True,  # there is no padding
    ) -> dict[str, Any]:
        for key, value, usual in (
            ("padding", padding, 0),
            ("dilation", dilation, 1),
            ("ceil_mode", ceil_mode, False),
            ("return_indices", return_indices, False),
            ("divisor_override", divisor_override, None),
        ):
            if value not in (usual, (usual, usual)):
                raise ValueError(f"{op} with {key}={value} is not supported: leave {key} at {usual}")
        return {"kernel": pair(kernel_size), "stride": pair(kernel_size if stride is None else stride)}

    return TorchLayer(
        run=lambda F, node, tensors, x: run(F)(x, node["kernel"], node["stride"]),
        forms=(TorchForm(names, fields), *more),
    )
