"""Threads for the executor: numpy releases the interpreter lock, so pieces that fit the cache run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod

THREADS = len(os.sched_getaffinity(0))
PIECE = 1 << 15  # entries: a handful of int64 temporaries of this size stay in a second-level cache


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


os.register_at_fork(after_in_child=pool.cache_clear)


def by_rows(shape: tuple[int, ...], work: Callable[[slice], object]) -> None:
    """Call work(rows) for ranges of the first axis of `shape` that tile it, about PIECE entries each.

    The calls must be independent and must not call `by_rows` themselves. The exception of the first range that
    failed is raised.
    """
    count = shape[0] if shape else 1
    step = max(1, PIECE // max(prod(shape[1:]), 1))
    pieces = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    if len(pieces) == 1 or THREADS == 1:
        for rows in pieces:
            work(rows)
        return
    for done in [pool().submit(work, rows) for rows in pieces]:
        done.result()
