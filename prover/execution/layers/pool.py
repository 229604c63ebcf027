"""What the pooling layers are in PyTorch."""

from __future__ import annotations

from typing import Any

from .pytorch import one_row, pair


def pool_fields(kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> dict[str, Any]:
    """The fields that both pooling layers have."""
    window = {"kernel": pair(kernel_size), "stride": pair(stride if stride else kernel_size)}
    return {**window, "padding": pair(padding), "ceil": bool(ceil_mode)}


def in_a_row(kernel_size: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    """The same of a pooling over sequences."""
    return one_row(kernel_size, 1), one_row(stride, 1) if stride else None, one_row(padding, 0)
