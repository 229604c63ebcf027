"""How the samples of the batches are filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.sample import Q32_BYTES, Samples
from circuits.tokens import Tokens

from .witness import Witness

U8 = NDArray[np.uint8]


def fill_samples(s: Samples | Tokens, w: Witness, samples: U8, rho: U8) -> None:
    """samples: uint8 (T, B, bytes), rho: uint8 (T, B, 1280)."""
    w.put(s.bytes, samples.astype(np.int64))
    w.put(s.rho, rho.astype(np.int64))
    if isinstance(s, Tokens):
        parts = samples.astype(np.int64).reshape(*samples.shape[:2], -1, s.token_bytes)
        tokens = sum(parts[..., i] << (8 * i) for i in range(s.token_bytes))
        w.put(s.onehot, (np.arange(s.tokens)[:, None] == np.asarray(tokens)[:, :, None]).astype(np.int64))
        return
    per = 1 if s.kind == "u8" else Q32_BYTES
    t, b = samples.shape[:2]
    data = samples[..., : s.pixels * per].astype(np.int64).reshape(t, b, s.pixels, per)
    raw = sum(data[..., i] << (8 * i) for i in range(per)) - (0 if per == 1 else 1 << 43)
    raw = np.asarray(raw).reshape(t, b, s.input_shape[0], -1)
    picked = raw[..., np.maximum(s.source, 0)] * (s.source >= 0)
    slope = np.array(s.slope, np.int64)[:, None]
    offset = np.array(s.offset, np.int64)[:, None]
    if s.kind == "u8":
        x = slope * picked + offset
    else:
        low = slope * (picked & 0xFFFF) + (1 << 15)
        x = slope * (picked >> 16) + (low >> 16) + offset
        for c, (rem, _) in enumerate(s.rounding):
            w.put(rem.tensor, (low & 0xFFFF)[:, :, c])
    w.put(s.x.tensor, x)
    for _, con in s.rounding:
        w.fill_carries_in(con)
    label = sum(samples[..., s.pixels * per + i].astype(np.int64) << (8 * i) for i in range(s.label_bytes))
    w.put(s.onehot, (np.arange(s.classes) == np.asarray(label)[..., None]).astype(np.int64))
