"""Counting how often each table entry is used."""

from __future__ import annotations

import numpy as np

from .arith import THREADS, IntArray, kernel, pool

PIECES = 16  # per thread: segments differ in cost
MOST = (1 << 32) - 1  # entries whose counts fit in 32 bits


@kernel
def _count(x, seg_starts, seg_shift, seg_first, seg_size, counts, start, stop):
    for s in range(len(seg_starts)):
        first = max(start, seg_starts[s])
        last = min(stop, seg_starts[s + 1]) if s + 1 < len(seg_starts) else stop
        if first < last:
            y, shift, size = x[first:last], seg_shift[s], seg_size[s]
            own = counts[seg_first[s] : seg_first[s] + size]
            for i in range(last - first):
                entry = y[i] + shift
                if 0 <= entry < size:
                    own[entry] += np.uint32(1)


def count_entries(
    x: IntArray, seg_starts: IntArray, seg_shift: IntArray, seg_first: IntArray, seg_size: IntArray, entries: int
) -> IntArray:
    """int64 (entries,): how many x[i] + seg_shift[s] = j there are for entry seg_first[s] + j, 0 <= j < seg_size[s].

    x int32 (m,); int64 vectors per segment, segment s being [seg_starts[s], seg_starts[s+1]) and the
    last one ending at m; seg_starts is sorted and begins with 0. Other values are not counted.
    """
    total = np.zeros(entries, np.int64)
    counts = np.zeros((THREADS, entries), np.uint32)

    def run(thread: int, cuts: list[int]) -> None:
        for k in range(thread, PIECES * THREADS, THREADS):
            _count(x, seg_starts, seg_shift, seg_first, seg_size, counts[thread], cuts[k], cuts[k + 1])

    for start in range(0, len(x), MOST):
        size = min(MOST, len(x) - start)
        cuts = [start + size * k // (PIECES * THREADS) for k in range(PIECES * THREADS + 1)]
        counts[:] = 0
        list(pool().map(run, range(THREADS), [cuts] * THREADS))
        total += counts.sum(axis=0, dtype=np.int64)
    return total
