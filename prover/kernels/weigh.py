"""Sums of int32 digits with small integer weights, exact in 64 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arith import IntArray, kernel, spread

TILE = 256  # sums side by side
STEP = 4  # terms added to a sum at once


@kernel
def _weigh(x, weights, out, start, stop):
    """Weights are zero up to a multiple of STEP."""
    count, n = len(weights), x.shape[1]
    inner = x.shape[2]
    tiles = -(-inner // TILE)
    for task in range(start, stop):
        o, first = task // tiles, task % tiles * TILE
        width = min(TILE, inner - first)
        for j in range(0, n, STEP):
            a, b = x[o, j, first : first + width], x[o, min(j + 1, n - 1), first : first + width]
            c, d = x[o, min(j + 2, n - 1), first : first + width], x[o, min(j + 3, n - 1), first : first + width]
            for m in range(count):
                w0, w1, w2, w3 = weights[m, j : j + STEP]
                ys = out[m, o, first : first + width]
                for i in range(width):
                    low = np.int64(w0) * np.int64(a[i]) + np.int64(w1) * np.int64(b[i])
                    ys[i] += low + np.int64(w2) * np.int64(c[i]) + np.int64(w3) * np.int64(d[i])


def weigh(x: IntArray, weights: npt.NDArray[np.int32], out: npt.NDArray[np.int64]) -> None:
    """out[m, o, i] += sum_j weights[m, j] x[o, j, i]: x int32 (outer, n, inner), weights int32 (m, n), contiguous."""
    outer, n, inner = x.shape
    weights = np.pad(weights, ((0, 0), (0, -n % STEP)))
    spread(_weigh, outer * -(-inner // TILE), 1 + (1 << 15) // max(n * min(inner, TILE), 1), x, weights, out)
