"""Raw samples as the numbers that a model reads (docs/spec/semantics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from circuits.net import VALUE_LIMIT
from zkcert.errors import RangeOverflow, UnusableInput
from zkcert.public.model import input_affine


def input_integers(spec: Mapping[str, Any], samples: np.ndarray) -> np.ndarray:
    """Raw samples [..., C, H, W], zero-padded, then normalised: int64 [..., C, H + 2p, W + 2p] in Q31.32.

    uint8 samples are bytes; int64 samples are in Q31.32. Padding becomes the channel's C, not 0.
    Raises RangeOverflow if an int64 sample is 2048 or more, raw or normalised.
    """
    kind = {np.dtype(np.uint8): "u8", np.dtype(np.int64): "q32"}.get(samples.dtype)
    if kind is None or list(samples.shape[-3:]) != spec["shape"]:
        raise UnusableInput(
            f"samples must be uint8 or int64 of shape [..., {', '.join(map(str, spec['shape']))}], "
            f"not {samples.dtype} {list(samples.shape)}"
        )
    slope, shift = (np.array(v, dtype=np.int64)[:, None, None] for v in input_affine(spec, kind))
    width = [(0, 0)] * (samples.ndim - 2) + [(spec["pad"], spec["pad"])] * 2
    raw = np.pad(samples.astype(np.int64), width)
    if kind == "u8":
        return slope * raw + shift
    _check_range(raw)
    # A q needs more than 64 bits: the upper part of q contributes an integer to the quotient.
    return _check_range(slope * (raw >> 16) + ((slope * (raw & 0xFFFF) + (1 << 15)) >> 16) + shift)


def _check_range(values: np.ndarray) -> np.ndarray:
    largest = max(int(values.max(initial=0)), -int(values.min(initial=0))) / 2.0**32
    if largest >= VALUE_LIMIT:
        raise RangeOverflow("input", largest, VALUE_LIMIT, "scale the samples")
    return values


def input_values(spec: Mapping[str, Any], samples: np.ndarray) -> np.ndarray:
    """`input_integers` in real units: float64 [..., C, H + 2p, W + 2p], exact; of tokens, uint16, int64 as they are."""
    if "tokens" in spec:
        if samples.dtype != np.uint16 or list(samples.shape[-3:]) != spec["shape"]:
            raise UnusableInput(f"the model reads windows of {spec['shape'][2]} tokens, not {samples.dtype} samples")
        if int(samples.max(initial=0)) >= spec["tokens"]:
            raise UnusableInput(f"tokens must be below {spec['tokens']}; there is a token {samples.max()}")
        return samples.astype(np.int64)
    return input_integers(spec, samples) / 2.0**32
