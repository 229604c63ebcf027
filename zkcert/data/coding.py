"""Samples as bytes: see `zkcert.data.committed`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zkcert.core.merkle import U8Array
from zkcert.public.root import VALUE_BYTES, Schema

_Q32_OFFSET = 1 << 43


def sample_size(schema: Schema) -> int:
    """Bytes of one encoded sample, label included."""
    return prod(schema.shape) * schema.value_bytes + schema.label_bytes


def encode(schema: Schema, x: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> U8Array:
    """The bytes (n, sample_size) of samples x (n, C, H, W), uint8, float32, or of tokens uint16, with labels y (n,)."""
    if schema.kind == "tokens":
        x = _low_bytes(x.astype(np.int64), schema.value_bytes)
    if schema.kind == "q32":
        # Exact in float64: v 2^32 has 24 bits, so adding 1/2 needs at most 53 unless |v 2^32| < 2^-28,
        # and then rounding cannot change the floor.
        q = np.floor(x.astype(np.float64) * 2.0**32 + 0.5).astype(np.int64) + _Q32_OFFSET
        x = _low_bytes(q, VALUE_BYTES["q32"])
    return np.hstack((x.reshape(len(x), -1), _low_bytes(y, schema.label_bytes)))


def images(schema: Schema, samples: U8Array) -> npt.NDArray[Any]:
    """The values (n, C, H, W) of encoded samples (n, sample_size): uint8, float64 for q32, uint16 for tokens."""
    pixels, shape = samples[:, : -schema.label_bytes], (len(samples), *schema.shape)
    if schema.kind == "u8":
        return pixels.reshape(shape)
    if schema.kind == "tokens":
        return _from_bytes(pixels.reshape(*shape, -1)).astype(np.uint16)
    return ((_from_bytes(pixels.reshape(*shape, -1)) - _Q32_OFFSET) / 2.0**32).astype(np.float64)


def labels(schema: Schema, samples: U8Array) -> npt.NDArray[np.int64]:
    """The labels (n,) of encoded samples (n, sample_size); of tokens (n, L), those behind each position."""
    if schema.kind == "tokens":
        return _from_bytes(samples.reshape(len(samples), -1, schema.label_bytes)[:, 1:])
    return _from_bytes(samples[:, -schema.label_bytes :])


def _low_bytes(values: npt.NDArray[np.int64], count: int) -> U8Array:
    """(...,) -> (..., count), little-endian."""
    return values.astype("<i8")[..., None].view(np.uint8)[..., :count]


def _from_bytes(data: U8Array) -> npt.NDArray[np.int64]:
    """Inverse of _low_bytes for values that are not negative."""
    return data @ (np.int64(1) << (8 * np.arange(data.shape[-1], dtype=np.int64)))
