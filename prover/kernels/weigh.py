"""Sums of int32 digits with small integer weights, exact in 64 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arith import IntArray, kernel, spread

TILE = 512  # sums side by side


@kernel
def _weigh(x, weights, out, start, stop):
    count, n = weights.shape
    inner = x.shape[2]
    tiles = -(-inner // TILE)
    for task in range(start, stop):
        o, first = task // tiles, task % tiles * TILE
        width = min(TILE, inner - first)
        for j in range(n):
            xs = x[o, j, first : first + width]
            for m in range(count):
                w, ys = weights[m, j], out[m, o, first : first + width]
                for i in range(width):
                    ys[i] += np.int64(w) * np.int64(xs[i])


def weigh(x: IntArray, weights: npt.NDArray[np.int32], out: npt.NDArray[np.int64]) -> None:
    """out[m, o, i] += sum_j weights[m, j] x[o, j, i]: x int32 (outer, n, inner), weights int32 (m, n), contiguous."""
    outer, n, inner = x.shape
    spread(_weigh, outer * -(-inner // TILE), 1 + (1 << 15) // max(n * min(inner, TILE), 1), x, weights, out)
