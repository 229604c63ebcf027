"""Memory for large arrays that is used again: touching a page for the first time costs as much as computing what is in
it, and on a virtual machine several times that."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np

from zkcert.core.field import U64Array

SMALLEST = 1 << 20  # bytes; the C library keeps the memory of smaller arrays itself


class Arena:
    """A range of addresses from which arrays are cut, each at the lowest place that is free.

    A place is free again when nothing refers to the array or to a view of it. Its pages stay, so that the arena holds
    about as much as was in use at once, until `release` gives back what is free.
    """

    def __init__(self, size: int) -> None:
        """size: bytes of addresses, which take no memory until they are used. Raises OSError."""
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._lock = threading.RLock()  # an array may die, and give its place back, while another is cut
        self.free = [(0, size)]  # in order, with something in use between any two

    def empty(self, shape: Sequence[int]) -> U64Array:
        """An uint64 array with any contents. Raises MemoryError where there is no place for it."""
        count = prod(shape)
        size = -(-8 * count // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            k = next((k for k, (start, stop) in enumerate(self.free) if stop - start >= size), None)
            if k is None:
                raise MemoryError
            start, stop = self.free[k]
            self.free[k : k + 1] = [(start + size, stop)] if stop - start > size else []
        out = np.frombuffer(self._map, np.uint64, count, start)  # views of it refer to it, and not past it to the map
        weakref.finalize(out, self._give_back, start, start + size).atexit = False
        return out.reshape(shape)

    def _give_back(self, start: int, stop: int) -> None:
        with self._lock:
            k = sum(first < start for first, _ in self.free)
            if k < len(self.free) and self.free[k][0] == stop:
                stop = self.free.pop(k)[1]
            if k and self.free[k - 1][1] == start:
                k -= 1
                start = self.free.pop(k)[0]
            self.free.insert(k, (start, stop))

    def release(self) -> None:
        """Give the pages of what is free back to the system."""
        with self._lock:
            for start, stop in self.free:
                self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)


@cache
def arena() -> Arena | None:
    """As large as the machine's memory; None if the system grants no such range."""
    try:
        return Arena(os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE)
    except (OSError, ValueError):
        return None


os.register_at_fork(after_in_child=arena.cache_clear)


def empty(*shape: int) -> U64Array:
    """An uint64 array with any contents."""
    place = arena() if 8 * prod(shape) >= SMALLEST else None
    try:
        return np.empty(shape, np.uint64) if place is None else place.empty(shape)
    except MemoryError:
        return np.empty(shape, np.uint64)


def release() -> None:
    """Give back what is kept for arrays to come."""
    if place := arena():
        place.release()
