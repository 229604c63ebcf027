"""How `circuits.head.exponential` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.head.constants import EXP_CHUNKS, EXP_LOW_BITS, EXP_TOP, HEAD_BITS, ONE, exp_table
from circuits.head.exponential import Exponential

from ..witness import Witness

Ints = NDArray[np.object_]


def fill_exponential(exp: Exponential, w: Witness, x: Ints) -> None:
    """x: object array of Python integers over the domain. Carries are left to who declared the constraint."""
    v = evaluate(x)
    w.put(exp.low.tensor, v["low"])
    chunks = np.stack([(c[..., None] == np.arange(16)).astype(np.int64) for c in v["chunks"]])
    w.put(exp.chunks.tensor, chunks)
    w.put(exp.far.tensor, v["far"])
    w.put(exp.rest.tensor, (x >> EXP_TOP) - v["far"])
    for view, key in ((exp.a2, "a2"), (exp.r2, "r2"), (exp.a3, "a3"), (exp.r3, "r3"), (exp.y, "y")):
        w.put(view.tensor, v[key])
    for view, value in zip(exp.ys, v["ys"], strict=True):
        w.put(view.tensor, value)
    for view, value in zip(exp.rems, v["rems"], strict=True):
        w.put(view.tensor, value)


def evaluate(x: Ints) -> dict[str, Any]:
    """All intermediate integers of exp(-x); key "y" is the result."""
    low = x & ((1 << EXP_LOW_BITS) - 1)
    chunks = [(x >> (EXP_LOW_BITS + 4 * i)) & 15 for i in range(EXP_CHUNKS)]
    far = ((x >> EXP_TOP) > 0).astype(np.int64).astype(object)
    a2 = (low * low + (1 << 8)) >> 9
    t3 = a2 * low + (3 << 31)
    y = ONE - (low << 24) + a2 - t3 // (3 << 32)
    ys, rems = [y], []
    for i, c in enumerate(chunks):
        table = np.array(exp_table(i), object)
        t = y * table[c.astype(np.int64)] + (1 << (HEAD_BITS - 1))
        y = t >> HEAD_BITS
        ys.append(y)
        rems.append(t & (ONE - 1))
    return {
        "low": low,
        "chunks": chunks,
        "far": far,
        "a2": a2,
        "r2": (low * low + (1 << 8)) & 511,
        "a3": t3 // (3 << 32),
        "r3": t3 % (3 << 32),
        "ys": ys,
        "rems": rems,
        "y": y * (1 - far),
    }
