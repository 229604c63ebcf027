"""The precision of products in float32 on CUDA devices. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 inside: products and convolutions of float32 are computed in float32; also a decorator.

    TF32 has 10 bits of mantissa, and PyTorch's default for convolutions on CUDA devices that know it. The settings are
    the process's; what they were is restored. On the CPU and in float64 nothing changes.
    """
    places, name, value = settings()
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            setattr(place, name, old)


def settings() -> tuple[list[Any], str, object]:
    """Where PyTorch keeps these settings, the attribute, and its value for full precision.

    Newer releases have `fp32_precision` for each operation instead of `allow_tf32`, and do not want them mixed.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [matmul, cudnn.conv, cudnn.rnn], "fp32_precision", "ieee"
    return [matmul, cudnn], "allow_tf32", False
