"""Memory for large arrays that is used again: touching a page for the first time costs as much as computing what is in
it, and on a virtual machine several times that."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from math import prod

import numpy as np

from zkcert.core.field import U64

NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # named from Python 3.13 on
SMALLEST = 1 << 20  # bytes; the C library keeps the memory of smaller arrays itself


class Arena:
    """A range of addresses from which arrays are cut, each at the lowest place that is free.

    A place is free again when nothing refers to the array or to a view of it. Its pages stay, so that the arena holds
    about as much as was in use at once, until `release` gives back what is free.
    """

    def __init__(self, size: int) -> None:
        """size: bytes of addresses, which take no memory until they are used, nor a promise of it: without that no
        process could fork. Raises OSError."""
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # of kernels without them
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self._lock = threading.Lock()
        self._free = [(0, size)]  # in order, with something in use between any two
        self._returned: deque[tuple[int, int]] = deque()  # an array may die anywhere, even while `_free` is looked at

    def empty(self, shape: Sequence[int]) -> U64:
        """An uint64 array with any contents. Raises MemoryError where there is no place for it."""
        count = prod(shape)
        size = -(-8 * count // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            free = self._collected()
            k = next((k for k, (start, stop) in enumerate(free) if stop - start >= size), None)
            if k is None:
                raise MemoryError
            start, stop = free[k]
            free[k : k + 1] = [(start + size, stop)] if stop - start > size else []
        out = np.frombuffer(self._map, np.uint64, count, start)  # views of it refer to it, and not past it to the map
        weakref.finalize(out, self._returned.append, (start, start + size)).atexit = False
        return out.reshape(shape)

    def _collected(self) -> list[tuple[int, int]]:
        """The free places, with those that have been given back since the last time."""
        free = self._free
        while self._returned:
            start, stop = self._returned.popleft()
            k = sum(first < start for first, _ in free)
            if k < len(free) and free[k][0] == stop:
                stop = free.pop(k)[1]
            if k and free[k - 1][1] == start:
                k -= 1
                start = free.pop(k)[0]
            free.insert(k, (start, stop))
        return free

    def free(self) -> list[tuple[int, int]]:
        """Where the free places begin and end, in order."""
        with self._lock:
            return list(self._collected())

    def release(self) -> None:
        """Give the pages of what is free back to the system."""
        with self._lock:
            for start, stop in self._collected():
                self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)


@cache
def arena() -> Arena | None:
    """As large as the machine's memory; None if the system grants no such range."""
    try:
        return Arena(os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE)
    except (OSError, ValueError):
        return None


os.register_at_fork(after_in_child=arena.cache_clear)


def empty(*shape: int) -> U64:
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
