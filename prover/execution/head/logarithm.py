"""How `circuits.head.logarithm` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.head.constants import HEAD_BITS, LOG_STAGES, LOG_TABLE, ONE, ln_scaled, log_factors, log_table
from circuits.head.logarithm import MANTISSA_BITS, TOP_REST, Logarithm
from circuits.language.tensors import DIGIT_BITS

from ..witness import Witness

Ints = NDArray[np.object_]


def fill_logarithm(log: Logarithm, w: Witness, v: Ints) -> None:
    """v: object array of positive Python integers over the domain, below 2^(22 n). Carries are left to who declared the
    constraint."""
    n = log.count
    t = evaluate(v, n)
    h = t["shift"].astype(np.int64)
    a, b = h // DIGIT_BITS, h % DIGIT_BITS
    if log.limb_shift is not None:
        w.put(log.limb_shift.tensor, (a[..., None] == np.arange(log.max_limbs + 1)).astype(np.int64))
        w.put(log.moved.tensor, v << (DIGIT_BITS * a).astype(object))
    w.put(log.bit_shift.tensor, (b[..., None] == np.arange(log.bit_choices)).astype(np.int64))
    w.put(log.normal.tensor, t["normal"])
    w.put(log.top_rest.tensor, (t["normal"] >> (DIGIT_BITS * (n - 1))) & ((1 << TOP_REST) - 1))
    for i, (view, c) in enumerate(zip(log.choices, t["choices"], strict=True)):
        w.put(view.tensor, (c[..., None] == np.arange(LOG_TABLE[i])).astype(np.int64))
    for i, view in enumerate(log.rests):
        w.put(view.tensor, t["ws"][i] - ONE - (t["choices"][i + 1] << (48 - 4 * i)))
    for view, value in zip(log.ws, t["ws"], strict=True):
        w.put(view.tensor, value)
    for view, value in zip(log.rems, t["rems"], strict=True):
        w.put(view.tensor, value)
    for view, key in ((log.z, "z"), (log.a2, "a2"), (log.r2, "r2"), (log.a3, "a3"), (log.r3, "r3")):
        w.put(view.tensor, t[key])


def evaluate(v: Ints, limbs: int) -> dict[str, Any]:
    """All intermediate integers of ln v; key "ln" is the result."""
    total = DIGIT_BITS * limbs
    shift = np.vectorize(lambda x: total - int(x).bit_length(), otypes=[object])(v)
    normal = v << shift
    w = normal >> (total - MANTISSA_BITS)
    c = (w >> (MANTISSA_BITS - 5)) & 15
    ws, rems, choices = [], [], [c]
    for i in range(LOG_STAGES):
        bits = MANTISSA_BITS if i == 0 else HEAD_BITS
        t = w * np.array(log_factors(i), object)[choices[-1].astype(np.int64)]
        w = t >> bits
        ws.append(w)
        rems.append(t & ((1 << bits) - 1))
        if i + 1 < LOG_STAGES:
            choices.append((w - ONE) >> (48 - 4 * i))
    z = w - ONE
    a2 = (z * z) >> (HEAD_BITS + 1)
    a3 = 2 * a2 * z // (3 * ONE)
    ln = z - a2 + a3 + (total - 1 - shift) * ln_scaled(2)
    for i, c in enumerate(choices):
        ln = ln + np.array(log_table(i), object)[c.astype(np.int64)]
    return {
        "shift": shift,
        "normal": normal,
        "choices": choices,
        "ws": ws,
        "rems": rems,
        "z": z,
        "a2": a2,
        "r2": (z * z) & ((ONE << 1) - 1),
        "a3": a3,
        "r3": 2 * a2 * z % (3 * ONE),
        "ln": ln,
    }
